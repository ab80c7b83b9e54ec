"""Every object shows itself: the same story as its text, nothing that could run, nothing that overflows."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from making import make_dataset

from autoseg.cli import main
from autoseg.core.decisions import Attempt, Decision, Input, Threshold, Trace
from autoseg.core.errors import DatasetError, StorageError
from autoseg.data.checks import Finding, Findings
from autoseg.data.dataset import Case, Dataset, Fold
from autoseg.data.fingerprint import extract_fingerprint
from autoseg.data.geometry import Grid
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.data.memory import dataset_from_arrays
from autoseg.data.opening import open_dataset
from autoseg.data.samples import sample_dataset
from autoseg.display import render
from autoseg.display.microscope import first_of
from autoseg.display.report import report
from autoseg.evaluation.metrics import Overlap
from autoseg.evaluation.scores import Evaluation, Score, evaluate
from autoseg.planning.budget import Budget
from autoseg.planning.planner import make_plan
from autoseg.prediction.inference import predict
from autoseg.preprocessing.store import preprocess
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import EpochRecord, History
from autoseg.training.loop import Training

EVIL = "<img src=x onerror=alert(1)>"
ALARMING = "'\"><svg onload=alert(2)>"  # a case's name, so without a slash
LIMIT = 300_000
VOID = {"img", "br", "meta"}


def hostile(dataset: Dataset) -> Dataset:
    """The dataset under names that try to break out of the markup, out of mathtext and out of the font."""
    labels = Labels({"background": 0, EVIL: 1, "$x^{2 標籤": 2})
    cases = tuple(
        replace(c, name=f"{c.name}{ALARMING}", labels=labels, channels=(f"MR{EVIL}",)) for c in dataset.training
    )
    return replace(dataset, name=f"set{EVIL}", channels=(f"MR{EVIL}",), labels=labels, training=cases)


@pytest.fixture(scope="module")
def stages(tmp_path_factory):
    """One object of each kind, all from a real run on a tiny dataset with hostile names."""
    dataset = hostile(open_dataset(make_dataset(tmp_path_factory.mktemp("data"), cases=5, shape=(12, 16, 20))))
    fingerprint = extract_fingerprint(dataset, show_progress=False)
    plan = make_plan(fingerprint, Budget(memory_gb=4), given={"3d_fullres/batch_size": 2})
    prepared = preprocess(dataset, plan["3d_fullres"], show_progress=False)
    blueprint = Blueprint.quick(minutes=1).changed(
        epochs=2, minutes=None, iterations_per_epoch=2, validation_iterations=1, base_features=2
    )
    training = Training(prepared, fold=0, blueprint=blueprint, device="cpu")
    for _ in training:
        pass
    predictions = predict(training.model, dataset.fold(0).validation, device="cpu", show_progress=False)
    finding = Finding(check="readable", severity="error", cases=(f"case_0{ALARMING}",), message=f"bad {EVIL}")
    return {
        "labels": dataset.labels,
        "dataset": dataset,
        "case": dataset.training[0],
        "fold": dataset.fold(0),
        "image": dataset.training[0].image(),
        "label map": dataset.training[0].label(),
        "finding": finding,
        "findings": Findings((finding, replace(finding, severity="note")), dataset),
        "no findings": Findings((), dataset),
        "fingerprint": fingerprint,
        "budget": plan.budget,
        "plan": plan,
        "configuration": plan["3d_fullres"],
        "2d": plan["2d"],
        "trace": plan.trace,
        "decision": plan.trace["3d_fullres/patch_size"],
        "prepared": prepared,
        "prepared case": prepared[prepared.cases[0]],
        "training": training,
        "history": training.history,
        "model": training.model,
        "blueprint": blueprint,
        "predictions": predictions,
        "prediction": predictions[0],
        "evaluation": evaluate(predictions, dataset),
    }


KINDS = [
    "labels",
    "dataset",
    "case",
    "fold",
    "image",
    "label map",
    "finding",
    "findings",
    "no findings",
    "fingerprint",
    "budget",
    "plan",
    "configuration",
    "2d",
    "trace",
    "decision",
    "prepared",
    "prepared case",
    "training",
    "history",
    "model",
    "blueprint",
    "predictions",
    "prediction",
    "evaluation",
]


class Page(HTMLParser):
    """Reads markup strictly: tags must nest; collects tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.tags, self.images, self.words, self.events = [], set(), [], [], []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.events += [name for name, _ in attrs if name.startswith("on")]
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-1:]}"
        self.open.pop()

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.words))


@pytest.fixture(scope="module")
def pages(stages):
    return {kind: (html := render(thing), Page(html)) for kind, thing in stages.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_in_a_display_can_run(pages, kind):
    html, page = pages[kind]
    assert "script" not in page.tags and not page.events
    assert EVIL not in html and "<script" not in html
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)


@pytest.mark.parametrize("kind", KINDS)
def test_a_display_is_small_and_no_picture_is_wider_than_the_page(pages, kind):
    html, page = pages[kind]
    assert len(html) < LIMIT
    assert all(int(image["width"]) <= 672 and "alt" in image for image in page.images)


def test_hostile_names_are_there_as_text(pages):
    for kind in ("labels", "dataset", "case", "fingerprint", "plan", "model", "prediction", "evaluation", "findings"):
        assert EVIL in pages[kind][1].text, kind
    for kind in ("case", "fold", "finding", "prepared", "predictions", "evaluation"):
        assert ALARMING in pages[kind][1].text, kind
    assert "$x^{2 標籤" in pages["evaluation"][1].text


STORY = {
    "labels": r"[12] (\S.*?)(?=,|\))",
    "dataset": r"(\d+) training",
    "fold": r"(\d+) (?:training|validation)",
    "fingerprint": r"(\d+) cases|median shape ([\dx]+)|spacing ([\dx.]+)",
    "plan": r"(2d|3d_fullres): patch ([\dx]+) at ([\dx.]+) mm, batch (\d+), (\d+) stages",
    "configuration": r"patch ([\dx]+) at ([\dx.]+) mm, batch (\d+)|(\d+) stages",
    "decision": r"because (.*)|source: (.*)",
    "trace": r"(\d+) decisions, (\d+) given",
    "image": r"\(([\dx]+) voxels of ([\dx.]+) mm",
    "prepared case": r"([\dx]+) voxels of ([\dx.]+) mm",
    "training": r"fold (\d)|(cpu) in (\w+)",
    "evaluation": r"(\d+) cases?, mean Dice ([\d.]+)",
    "blueprint": r"(\d+) epochs|(adamw), learning rate ([\d.]+)",
}


@pytest.mark.parametrize("kind", STORY)
def test_text_and_html_tell_the_same_story(stages, pages, kind):
    told = [part for match in re.finditer(STORY[kind], repr(stages[kind])) for part in match.groups() if part]
    shown = pages[kind][1].text.replace(" × ", "x")
    assert told
    for fact in told:
        assert re.sub(r"\s+", " ", fact) in shown, f"{fact!r} is in the text only"


def test_a_card_reads_without_its_style(pages):
    html, _ = pages["dataset"]
    bare = Page(re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL))
    assert re.search(r"training cases\s+5", bare.text)
    assert {"table", "details", "img"} <= bare.tags


def test_a_case_without_label_map_is_shown(stages):
    html = render(replace(stages["case"], label_path=None))
    assert "no label map" in html and "as-picture" in html


def test_a_broken_case_leaves_the_others_in_the_dataset(stages, tmp_path):
    dataset = stages["dataset"]
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"not an image")
    cases = (replace(dataset.training[0], image_paths=(broken,)), *dataset.training[1:])
    html = render(replace(dataset, training=cases))
    assert "cannot be shown" in html and html.count('class="as-picture"') == 4
    assert "autoseg.check(dataset) looks at all cases" in html
    blind = (replace(dataset.training[0], label_path=broken), *dataset.training[1:])
    html = render(replace(dataset, training=blind))
    assert "without labels" in html and html.count('class="as-picture"') == 5
    with pytest.raises(DatasetError, match="cannot be read"):
        render(cases[0])
    assert "(no picture: DatasetError" in cases[0]._repr_html_()


def test_what_nobody_annotated_has_no_share_of_the_foreground():
    labels = Labels({"background": 0, "cell": 1}, ignore=2)
    array = np.zeros((4, 8, 8), np.int16)
    array[:3], array[0, 0, :4] = 2, 1
    html = render(LabelMap(array, Grid.of(array.shape), labels))
    assert "100%" in Page(html).text and Page(html).text.count("–") == 1


@pytest.mark.parametrize("severity", ["error", "warning", "note"])
def test_a_findings_severity_has_its_colour(severity):
    finding = Finding(check="few", severity=severity, cases=(), message="4 cases.", advice="Find more.")
    assert f'class="as-chip as-{severity}"' in render(finding)


def test_thousands_of_cases_are_counted_not_listed(stages):
    case = stages["case"]
    many = tuple(replace(case, name=f"case_{i}") for i in range(3000))
    html = render(replace(stages["dataset"], training=many))
    assert len(html) < LIMIT and "3,000" in html and "and 2,940 more" in html


def test_large_files_are_not_read_for_a_glance(stages, tmp_path):
    huge = tmp_path / "huge.nii.gz"
    with huge.open("wb") as file:
        file.truncate(500_000_000)  # sparse: takes no space
    case = replace(stages["case"], image_paths=(huge,))
    assert "500 MB on disk" in render(replace(stages["dataset"], training=(case,)))


def test_a_predictions_reference_is_drawn_as_a_line(pages):
    assert "line: reference" in pages["prediction"][1].text


def test_the_worst_cases_come_first(stages, pages):
    names = [re.escape(name) for name in stages["evaluation"].worst(2)]
    table = pages["evaluation"][1].text.partition("the worst first")[2]
    found = [re.search(name, table) for name in names]
    assert all(found) and [f.start() for f in found] == sorted(f.start() for f in found)


def test_given_decisions_are_marked(stages, pages):
    assert "1 given by you" in pages["plan"][1].text
    assert 'class="as-chip as-given"' in pages["plan"][0]


def test_a_label_that_no_patch_held_is_named_instead_of_nan():
    epoch = EpochRecord(
        number=0,
        iterations=3,
        seconds=2.0,
        training_loss=0.5,
        validation_loss=0.4,
        pseudo_dice=(0.5, float("nan")),
        learning_rate=0.01,
        timings={"forward": 1.0},
    )
    text = Page(render(History((epoch,), ("liver", "tumour")))).text
    assert "'tumour' was neither in the sampled validation patches" in text and "nan" not in text.lower()
    assert "No epoch is finished yet" in render(History((), ("liver",)))


def test_a_decision_shows_all_it_was_made_from():
    decision = Decision(
        name="3d_fullres/patch_size",
        value=(40, 56, 40),
        kind="rule-based",
        reason="it fits",
        inputs=(Input("spacing", (1.0, 1.0, 1.0), "3d_fullres/spacing"),),
        tried=tuple(Attempt((i, i, i), f"outcome {i}", {"memory_gb": i}, accepted=i == 99) for i in range(100)),
        thresholds=(Threshold(quantity="memory", value=9.5, relation="<=", limit=8.0, unit="GB"),),
        source="a paper",
    )
    text = Page(render(decision)).text
    for fact in ("40 × 56 × 40", "it fits", "does not hold", "9.5 GB ≤ 8 GB", "1.5 GB away", "3d_fullres/spacing"):
        assert fact in text
    assert "outcome 0" in text and "outcome 99" in text and "outcome 50" not in text and "76 more" in text
    assert "a paper" in text
    assert len(render(Trace((decision,) * 30))) < LIMIT


def test_a_fold_and_a_case_by_hand_need_nothing_else():
    case = Case(name="a", image_paths=(), label_path=None, channels=("CT",), labels=Labels({"background": 0, "b": 1}))
    assert "1 train, 1 validate" in render(Fold((case,), (replace(case, name="b"),)))


def test_a_report_tells_the_stages_there_are(stages, tmp_path):
    keys = ("dataset", "fingerprint", "plan", "prepared", "training", "predictions", "evaluation")
    path = report(tmp_path / "report.html", **{k: stages[k] for k in keys})
    page = Page(path.read_text(encoding="utf-8"))
    assert path.stat().st_size < 2_000_000
    assert "script" not in page.tags and not page.events and "link" not in page.tags
    html = path.read_text(encoding="utf-8")
    assert re.findall(r'href="#(\w+)"', html) == re.findall(r'<h2 id="(\w+)"', html) == list(keys)
    assert html.count("<style>") == 2  # ours once, however many cards there are
    assert not re.search(r'(src|href)="(?!data:|#)', html) and "http" not in html
    few = report(tmp_path / "few.html", plan=stages["plan"]).read_text(encoding="utf-8")
    assert re.findall(r'<h2 id="(\w+)"', few) == ["plan"]
    by_history = report(tmp_path / "history.html", training=stages["history"])
    assert "Trained for" in by_history.read_text(encoding="utf-8")


def test_real_data_shows_itself_within_the_limits(shared_data):
    for name in ("Task04_Hippocampus", "SunnybrookLV3D", "ProstateMRsmall", "OvuleNuclei3D"):
        dataset = open_dataset(shared_data / name)
        for thing in (dataset, dataset.training[0], dataset.training[0].label()):
            html = render(thing)
            assert len(html) < LIMIT and html.count('class="as-picture"') >= 3, (name, type(thing))


def test_the_same_label_has_the_same_colour_in_every_stage(pages):
    from autoseg.display.colours import colour_of, swatch

    first = swatch(colour_of(1)).partition("base64,")[2].partition('"')[0]
    for kind in ("labels", "dataset", "case", "fingerprint", "prepared case", "training", "prediction", "evaluation"):
        assert first in pages[kind][0], kind
    assert np.unique([swatch(colour_of(v)) for v in (1, 2)]).size == 2


def test_a_report_is_made_from_a_folder_alone(stages, tmp_path):
    dataset = sample_dataset()
    with pytest.raises(StorageError, match="holds no experiment"):
        report(tmp_path / "report.html", folder=tmp_path)
    fingerprint = extract_fingerprint(dataset, folder=tmp_path, show_progress=False)
    make_plan(fingerprint).save(tmp_path / "plan.json")
    prepared = preprocess(dataset, make_plan(fingerprint)["2d"], folder=tmp_path, show_progress=False)
    training = Training(prepared, fold=0, blueprint=stages["blueprint"], device="cpu")
    for _ in training:
        pass
    predictions = predict(
        training.model, dataset.fold(0).validation, folder=tmp_path / "predictions", device="cpu", show_progress=False
    )
    evaluation = evaluate(predictions, dataset)
    evaluation.to_csv(tmp_path / "evaluation.csv")
    for options, chapters in (
        ([], "fingerprint plan prepared training evaluation"),
        (["--data", str(dataset.folder)], "dataset fingerprint plan prepared training predictions evaluation"),
    ):
        assert main(["report", str(tmp_path), *options]) == 0
        html = (tmp_path / "report.html").read_text(encoding="utf-8")
        assert re.findall(r'<h2 id="(\w+)"', html) == chapters.split()
        assert f"mean Dice {evaluation.mean:.4f}".rstrip("0") in html


def test_hundreds_of_cases_are_shown_at_once(stages):
    """300 cases in under a second, 10,000 in under three."""
    case = stages["case"]
    facts = stages["fingerprint"].cases
    for number, seconds in ((300, 1.0), (10_000, 3.0)):
        dataset = replace(stages["dataset"], training=tuple(replace(case, name=f"case_{i}") for i in range(number)))
        known = tuple(replace(facts[i % len(facts)], name=f"case_{i}") for i in range(number))
        for thing in (dataset, replace(stages["fingerprint"], cases=known), dataset.fold(0)):
            started = time.perf_counter()
            html = render(thing)
            took = time.perf_counter() - started
            assert took < seconds and len(html) < LIMIT, f"{type(thing).__name__} of {number} cases: {took:.1f} s"


def test_thousands_of_scores_are_ranked_at_once(stages):
    scores = stages["evaluation"].scores
    many = Evaluation(tuple(replace(s, case=f"{s.case}_{k}") for k in range(10_000) for s in scores[:2]))
    started = time.process_time()
    html = render(many)
    assert time.process_time() - started < 3 and len(html) < LIMIT


def test_a_report_of_a_stopped_training_tells_how_far_it_came(stages, tmp_path):
    short = stages["blueprint"].changed(epochs=4, minutes=None)
    prepared = preprocess(stages["dataset"], stages["2d"], folder=tmp_path, show_progress=False)
    for epoch in Training(prepared, blueprint=short, folder=tmp_path):
        if epoch.number == 1:
            break
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")}
    text = Page(report(tmp_path / "page.html", folder=tmp_path).read_text()).text
    assert "Preprocessing" in text and "History 2 epochs" in text.replace("HISTORY", "History")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*")} == before, "reading writes nothing"


def test_a_report_says_which_file_it_could_not_read(stages, tmp_path):
    stages["fingerprint"].save(tmp_path / "fingerprint.json")
    (tmp_path / "plan.json").write_text("{")
    text = Page(report(tmp_path / "page.html", folder=tmp_path).read_text()).text
    assert "plan.json is left out" in text and "not valid JSON" in text
    (tmp_path / "fingerprint.json").unlink()
    with pytest.raises(StorageError, match=r"holds no experiment.*plan\.json is left out"):
        report(tmp_path / "page.html", folder=tmp_path)


@pytest.fixture(scope="module")
def pictures():
    random = np.random.default_rng(0)
    labels = [np.pad(np.ones((6, 6), int), ((0, 44), (i, 34 - i))) for i in range(6)]
    return dataset_from_arrays([random.random((50, 40)) for _ in labels], labels, name="pictures")


def test_a_preprocessed_picture_is_shown_as_the_picture_that_it_is(pictures):
    plan = make_plan(extract_fingerprint(pictures, show_progress=False))
    prepared = preprocess(pictures, plan["2d"], show_progress=False)
    html = render(prepared["case_0"])
    assert "with labels" in html
    assert "1 of 1" not in html and "999" not in html
    assert "\N{MINUS SIGN}0<" not in html


def test_a_picture_far_from_the_others_is_told_by_its_area(pictures):
    cases = [pictures[f"case_{i}"] for i in range(6)]
    labels = [np.pad(np.ones((40, 40), int), ((0, 10), (0, 0))), *(c.label().array for c in cases[1:])]
    odd = dataset_from_arrays([c.image().array[0] for c in cases], labels, name="odd")
    found = extract_fingerprint(odd, show_progress=False).outliers()
    assert [(o.case, o.fact, o.value, o.median) for o in found if "area" in o.fact] == [
        ("case_0", "area of foreground", 1600.0, 36.0)
    ]


def test_the_first_of_many_channels_are_told_with_a_sign_that_there_are_more():
    assert first_of((1.0, 2.5)) == "1; 2.5"
    assert first_of((1.0, 2.0, 3.0, 4.0)) == "1; 2; 3; …"


def test_a_table_of_cases_says_that_it_leaves_labels_out():
    scores = [Score("case", f"label {i}", Overlap(1, 1, 1, 1)) for i in range(7)]
    assert "the first 5 labels, 2 more in .table()" in render(Evaluation(tuple(scores)))
