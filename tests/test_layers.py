"""Imports point in one direction: from what uses to what is used. Read from the source, nothing is run."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "autoseg"
LAYERS = (  # each may import those before it; of rooms on one line, none may import another
    ("core",),
    ("data",),
    ("planning",),
    ("preprocessing", "evaluation.metrics"),
    ("networks",),
    ("training",),
    ("prediction",),
    ("evaluation", "interop", "scaling", "gym"),
    ("display",),
    ("demo",),
    ("cli",),
    ("__main__",),
)
INSIDE_DATA = (
    *(
        "geometry",
        "stash",
        "png",
        "tiff",
        "formats",
        "exchange",
        "labels",
        "label_values",
        "images",
        "corrections",
        "splits",
    ),
    *("dataset", "fixes", "pairs", "memory", "folders", "opening"),
    *("known", "checks", "generated", "samples", "case_facts", "fingerprint"),
)
WITHOUT_TORCH = (
    "core",
    "data",
    "planning",
    "gym",
    "evaluation.metrics",
    "interop.nnunet_plans",
    "interop.nnunet_dataset",
)
HEAVY = {"torch", "monai", "matplotlib", "pandas", "SimpleITK", "ipywidgets", "IPython", "nibabel", "blosc2"}


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py")) if name_of(path)}
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(tree: ast.AST) -> set[str]:
    """Full names of all modules imported anywhere in the tree, in functions too."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names


def ours(tree: ast.AST) -> set[str]:
    """The autoseg modules among them, without the package's name."""
    names = {name.removeprefix("autoseg.") for name in imported(tree) if name.startswith("autoseg.")}
    return {name for name in names if name in MODULES}


def top_level(tree: ast.Module) -> ast.Module:
    """The statements that run on import: no functions, nothing that is only for type checkers."""
    kept = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        kept.append(node)
    return ast.Module(kept, [])


def level(module: str) -> tuple[int, str]:
    """The layer of a module and the room it stands in; the longest matching name decides."""
    rooms = [(room, i) for i, layer in enumerate(LAYERS) for room in layer]
    fitting = [(len(room), i, room) for room, i in rooms if module == room or module.startswith(f"{room}.")]
    assert fitting, f"{module} stands in no layer: add its room to LAYERS"
    _, index, room = max(fitting)
    return index, room


@pytest.mark.parametrize("module", MODULES)
def test_imports_only_what_stands_below(module):
    mine, room = level(module)
    for other in ours(TREES[module]) - {module}:
        theirs, other_room = level(other)
        assert theirs < mine or other_room == room, f"{module} imports {other}, which is not below it"


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("data.")])
def test_data_is_built_in_order(module):
    name = module.split(".")[1]
    inside = {m.split(".")[1] for m in ours(TREES[module]) if m.startswith("data.")} - {name}
    if name == "normalization":
        assert not inside
        return
    assert name in INSIDE_DATA, f"say where {module} stands"
    assert inside <= set(INSIDE_DATA[: INSIDE_DATA.index(name)])


def test_geometry_and_labels_stand_side_by_side():
    assert not {"data.geometry"} & ours(TREES["data.labels"])
    assert not {"data.labels"} & ours(TREES["data.geometry"])


def test_modules_do_not_import_in_circles():
    graph = {name: ours(top_level(tree)) - {name} for name, tree in TREES.items()}
    assert len(tuple(TopologicalSorter(graph).static_order())) == len(MODULES)


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith(WITHOUT_TORCH)])
def test_above_the_torch_line_nobody_mentions_torch(module):
    roots = {name.partition(".")[0] for name in imported(TREES[module])}
    assert not roots & {"torch", "monai"}


@pytest.mark.parametrize("module", [m for m in MODULES if level(m)[0] <= level("preprocessing")[0]])
def test_light_modules_import_heavy_libraries_on_first_use(module):
    roots = {name.partition(".")[0] for name in imported(top_level(TREES[module]))}
    assert not roots & HEAVY


def test_only_the_mixin_reaches_displays_by_name():
    speakers = {
        name
        for name, tree in TREES.items()
        if not name.startswith("display")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and node.value == "autoseg.display"
    }
    assert speakers == {"core.shown"}


@pytest.mark.parametrize("module", MODULES)
def test_nothing_hidden_steers_the_package(module):
    """No environment variables, no globals, nothing executed from data."""
    tree = TREES[module]
    assert not imported(tree) & {"pickle", "os.environ", "os.getenv", "dill", "cloudpickle"}
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Global)
        if isinstance(node, ast.Attribute):
            assert ast.unparse(node) not in ("os.environ", "os.getenv")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("eval", "exec", "print", "__import__")
