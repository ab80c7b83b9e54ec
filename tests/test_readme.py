"""What the README says is so: its commands are the ones that run, its Python runs, and what it names is there."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import pytest

import autoseg
from autoseg.cli import _parser

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
    return [text for name, text in found if name == language]


def lines(language: str) -> list[str]:
    return [line for block in blocks(language) for line in block.splitlines()]


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("python")
    namespace: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), namespace)
    assert 0 < namespace["evaluation"].mean <= 1
    plan = namespace["plan"]
    assert len(plan.why("patch_size")) == 2
    assert "GPU memory in GB: 8 -> 4" in repr(plan.compare(plan.what_if(memory_gb=4)))
    assert not any(tmp_path.iterdir()), "without a folder nothing is written"


def test_the_first_two_commands_install_and_run_the_demo_and_the_tests():
    demo, tests = lines("bash")[:2]
    install = "python3 -m venv .venv && .venv/bin/python -m pip install -c constraints.txt -e "
    assert demo == f"{install}. && .venv/bin/autoseg demo"
    assert tests == f'{install}".[test,lab]" && .venv/bin/python -m pytest'


def test_continuous_integration_runs_exactly_the_test_command():
    script = (ROOT / ".ci/run").read_text()
    found = re.search(r"test_command=\$\(sed -n '(.*)' README\.md \| grep -- '(.*)'\)", script)
    assert found
    assert found[1] == "/^```bash$/,/^```$/p"
    assert [line for line in lines("bash") if re.search(found[2], line)] == lines("bash")[1:2]
    assert 'bash -euc "$test_command"' in script


def test_powershell_gets_the_same_commands():
    same = [
        line.replace("python3 -m", "py -m").replace(" && ", "; ").replace(".venv/bin/", ".venv\\Scripts\\")
        for line in lines("bash")[:2]
    ]
    assert lines("powershell") == same


def test_every_autoseg_command_can_be_parsed():
    commands = re.findall(r"autoseg ((?:demo|check|plan|train|predict|evaluate)[^&;\n]*)", "\n".join(lines("bash")))
    assert len(commands) == 2
    for command in commands:
        _parser().parse_args(command.split())


def test_extras_and_the_command_exist():
    assert {"test", "lab", "itk", "scale", "onnx", "browser"} == set(PROJECT["optional-dependencies"])
    assert PROJECT["scripts"] == {"autoseg": "autoseg.cli:main"}


def test_files_that_are_linked_or_listed_are_there():
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", README) + re.findall(r"`(notebooks/[^`]+)`", README)
    tree = blocks("")[-1]
    inside = [f"autoseg/{name}" for name in re.findall(r"^[├└]── (\S+)", tree, flags=re.MULTILINE)]
    top = re.findall(r"^([\w.][\w./]*) {2,}", tree, flags=re.MULTILINE)
    assert len(inside) > 8
    assert {"autoseg/", ".ci/run", "data_samples/"} <= set(top)
    for name in linked + inside + top:
        assert (ROOT / name).exists(), name


def test_every_folder_of_the_package_is_in_the_tree():
    folders = {p.parent.name for p in (ROOT / "autoseg").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^[├└]── (\w+)/", blocks("")[-1], flags=re.MULTILINE))


def test_what_is_faster_than_nnunet_is_what_the_benchmarks_wrote():
    table = README.partition("Beside nnU-Net 2.8.1")[2].partition("An nnU-Net model opened here")[0]
    rows = [line.split("|")[2:4] for line in table.splitlines() if line.endswith(".py` |")]
    assert len(rows) == 8
    results = set(re.findall(r"[\d.]+", (ROOT / "benchmarks/results/README.md").read_text()))
    assert (
        set(re.findall(r"\d[\d.]*(?= )", "".join(" ".join(row) for row in rows)) + re.findall(r"9[\d.]+(?= %)", table))
        <= results
    )


def test_what_it_reaches_is_what_the_benchmarks_printed():
    table = README.partition("## What it reaches")[2].partition("\n\nnnU-Net is made for days")[0]
    lines = [line for line in table.splitlines() if "`accuracy.py" in line]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    names = ("hippocampus", "hippocampus_10", "membranes", "heart", "heart_2d", "nuclei", "nuclei_2d")
    for name, row in zip(names, rows, strict=True):
        printed = (ROOT / f"benchmarks/results/{name}.txt").read_text()
        seeds = re.findall(r"^seed \d: .*; (\d+) cases predicted", printed, flags=re.MULTILINE)
        (mean,) = re.findall(r"^autoseg: mean Dice ([\d.]+)", printed, flags=re.MULTILINE)
        theirs = re.findall(r"^nnU-Net: mean Dice ([\d.]+) after (\d+) iterations", printed, flags=re.MULTILINE)
        assert (row[1], row[2]) == (seeds[0], str(len(seeds)))
        assert row[3].startswith(f"{float(mean):.3f}")
        assert bool(row[4]) == bool(theirs)
        assert all(row[4].startswith(f"{float(dice):.3f} ({steps} steps") for dice, steps in theirs)


def test_badges_open_the_quickstart():
    places = re.findall(r"\)\]\((https://(?:colab|mybinder)[^)]+)\)", README)
    assert [place.endswith("notebooks/00_quickstart.ipynb") for place in places] == [True, True]


def test_one_command_writes_whose_repository_badges_open(tmp_path):
    spec = importlib.util.spec_from_file_location("address", ROOT / "docs/address.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (tmp_path / "notebooks").mkdir()
    for page in module.pages(ROOT):
        (tmp_path / page.relative_to(ROOT)).write_text(page.read_text())
    module.main("somebody", root=tmp_path)
    for page in module.pages(tmp_path):
        assert re.findall(rf"{module.PLACES}/autoseg", page.read_text()), page.name
        assert "OWNER/autoseg" not in page.read_text(), page.name
        assert "/somebody/autoseg" in page.read_text()
    with pytest.raises(SystemExit, match="'some body' is no name of a GitHub user"):
        module.main("some body", root=tmp_path)


def test_the_changelog_speaks_of_this_version():
    assert f"## {autoseg.__version__}" in (ROOT / "CHANGELOG.md").read_text()


PINS = {
    re.split(r"[=;]", line)[0]: line.partition("==")[2].partition(";")[0].strip()
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
}


def test_everything_that_is_installed_is_pinned():
    wanted = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    names = {re.split(r"[^\w.-]", requirement)[0].lower().replace("_", "-") for requirement in wanted}
    assert names - {"autoseg"} <= set(PINS)
    assert all(re.fullmatch(r"[\w.]+", version) for version in PINS.values())


def test_what_must_not_come_in_does_not():
    assert PINS["torch"] == "2.13.0"
    assert not {"torchvision", "torchaudio"} & set(PINS)


def test_nothing_forces_a_colab_session_to_upgrade():
    """Lower bounds that a Colab of 2024 meets, and no upper bounds."""
    bounds = dict(re.fullmatch(r"([\w.-]+)>=([\d.]+)", requirement).groups() for requirement in PROJECT["dependencies"])
    assert tuple(map(int, bounds["torch"].split("."))) <= (2, 5)
    assert tuple(map(int, bounds["numpy"].split("."))) <= (1, 26)
