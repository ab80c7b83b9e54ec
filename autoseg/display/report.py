"""One page that tells a whole experiment: every stage with its pictures, in one file that needs nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autoseg import __version__
from autoseg.core.serialization import write_text
from autoseg.core.types import PathLike
from autoseg.display import render
from autoseg.display.html import Html, join, style, tag
from autoseg.display.report_folder import stages_in
from autoseg.display.words import count, duration, score, times

if TYPE_CHECKING:
    from autoseg.data.dataset import Dataset
    from autoseg.data.fingerprint import Fingerprint
    from autoseg.evaluation.scores import Evaluation
    from autoseg.planning.plan import Plan
    from autoseg.prediction.inference import Predictions
    from autoseg.preprocessing.store import PreprocessedDataset
    from autoseg.training.history import History
    from autoseg.training.loop import Training
    from autoseg.training.model import TrainedModel

CHAPTERS = {
    "dataset": ("The dataset", "What there is to learn from: images, and their reference labels."),
    "fingerprint": ("Its fingerprint", "The facts about these images that the plan is made from."),
    "plan": ("The plan", "How the method configured itself for these facts, and why."),
    "prepared": ("Preprocessing", "The cases on the plan's grid, with normalized intensities: what the network sees."),
    "training": ("Training", "How the network learned."),
    "predictions": ("Predictions", "What the trained network draws on images it never saw."),
    "evaluation": ("Evaluation", "How well that agrees with the reference, the worst cases first."),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Experiment:
    """What is known of an experiment; None for the stages that it did not reach."""

    dataset: Dataset | None
    fingerprint: Fingerprint | None
    plan: Plan | None
    prepared: PreprocessedDataset | None
    training: Training | TrainedModel | History | None
    predictions: Predictions | None
    evaluation: Evaluation | None
    unread: tuple[str, ...] = ()  # what lay in the folder and could not be read

    @property
    def name(self) -> str:
        """The dataset's, from whatever knows it."""
        if self.dataset is not None:
            return self.dataset.name
        if self.fingerprint is not None:
            return self.fingerprint.dataset_name
        return self.plan.fingerprint.dataset_name if self.plan is not None else "Experiment"

    def chapters(self) -> Iterator[tuple[str, list[object]]]:
        """The stages there are, each with what is shown of it: the whole, and one case to look at closely."""
        for name in CHAPTERS:
            stage = getattr(self, name)
            if stage is not None:
                yield name, [stage, *self._examples(name)]

    def _examples(self, chapter: str) -> list[object]:
        if chapter == "dataset" and self.dataset is not None:
            return [self.dataset.training[0]]
        if chapter == "prepared" and self.prepared is not None:
            return [self.prepared[name] for name in self.prepared.cases[:1]]
        if chapter == "predictions" and self.predictions is not None:
            return list(self.predictions[:1])
        return []

    def summary(self) -> Iterator[str]:
        """The experiment in a few sentences, as far as it went."""
        if self.dataset is not None:
            labels = ", ".join(self.dataset.labels.regions)
            yield f"{count(len(self.dataset), 'training case')} with {', '.join(self.dataset.channels)}: find {labels}."
        configuration = self.prepared.configuration if self.prepared is not None else None
        if configuration is not None:
            patch = times(configuration.patch_size)
            yield f"The {configuration.name} configuration looks at patches of {patch} voxels."
        stage: object = self.training  # a training and a model have a history, a history is one
        epochs = getattr(getattr(stage, "history", stage), "epochs", ())
        if epochs:
            yield f"Trained for {duration(epochs[-1].seconds)}."
        if self.evaluation is not None:
            cases = count(len(self.evaluation.cases), "case")
            yield f"Mean Dice {score(self.evaluation.mean)} on {cases}."


def report(
    path: PathLike,
    *,
    folder: PathLike | None = None,
    dataset: Dataset | None = None,
    fingerprint: Fingerprint | None = None,
    plan: Plan | None = None,
    prepared: PreprocessedDataset | None = None,
    training: Training | TrainedModel | History | None = None,
    predictions: Predictions | None = None,
    evaluation: Evaluation | None = None,
) -> Path:
    """Write one HTML page of an experiment that needs no other file; stages that are None are left out.

    What is not given is looked for in the `folder` of the experiment, where there is one. Raises `StorageError` where
    that holds nothing or the page cannot be written.

    >>> import autoseg, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     page = autoseg.report(f"{folder}/report.html", dataset=autoseg.sample_dataset())
    ...     page.read_text()[:15]
    '<!doctype html>'
    """
    given: dict[str, Any] = {
        "dataset": dataset,
        "fingerprint": fingerprint,
        "plan": plan,
        "prepared": prepared,
        "training": training,
        "predictions": predictions,
        "evaluation": evaluation,
    }
    found = {} if folder is None else stages_in(folder, dataset)
    stages = {name: found.get(name) if stage is None else stage for name, stage in given.items()}
    experiment = _Experiment(**stages, unread=found.get("unread", ()))
    return write_text(path, _page(experiment))


def _page(experiment: _Experiment) -> str:
    """Title, what came out, table of contents, and a chapter a stage."""
    sheet = files("autoseg.display").joinpath("report.css").read_text(encoding="utf-8")
    chapters = list(experiment.chapters())
    links = (tag("li", tag("a", f"{i} {CHAPTERS[n][0]}", href=f"#{n}")) for i, (n, _) in enumerate(chapters, start=1))
    body = tag(
        "main",
        tag("h1", experiment.name),
        tag("p", " ".join(experiment.summary()), class_="report-summary"),
        *(tag("p", sentence, class_="report-quiet") for sentence in experiment.unread),
        tag("nav", tag("ol", *links)),
        *(_chapter(i, name, shown) for i, (name, shown) in enumerate(chapters, start=1)),
        tag("footer", f"Made with autoseg {__version__}. For research and teaching; not for treating patients."),
    )
    head = join(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"{experiment.name} · autoseg"),
        style(),
        Html(f"<style>{sheet}</style>"),
    )
    return "<!doctype html>" + tag("html", tag("head", head), tag("body", body), lang="en")


def _chapter(position: int, name: str, shown: list[object]) -> Html:
    title, about = CHAPTERS[name]
    cards = (Html(render(item).replace(style(), "")) for item in shown)
    heading = tag("h2", f"{position} {title}", id=name)
    return tag("section", heading, tag("p", about, class_="report-quiet"), *cards)
