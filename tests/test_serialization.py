"""What is written is read back the same, files are whole or not there, and nothing read is executed."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.errors import StorageError
from autoseg.core.serialization import (
    atomic_path,
    digest,
    from_jsonable,
    read_json,
    require_writable,
    to_jsonable,
    write_json,
    write_text,
)
from autoseg.data.normalization import CTNormalization, Normalization, ZScore


@dataclass(frozen=True)
class Leaf:
    numbers: tuple[float, ...]
    pair: tuple[int, str]
    maybe: int | None = None


@dataclass(frozen=True)
class Tree:
    leaves: dict[int, Leaf] = field(hash=False)
    path: Path
    either: int | tuple[int, ...]
    step: Normalization


finite = st.floats(allow_nan=False, allow_infinity=False)
leaves = st.builds(Leaf, st.lists(finite).map(tuple), st.tuples(st.integers(), st.text()), st.none() | st.integers())
steps = st.builds(ZScore) | st.builds(CTNormalization, low=finite, high=finite, mean=finite, std=finite)
trees = st.builds(
    Tree,
    st.dictionaries(st.integers(), leaves, max_size=3),
    st.text("abc/", min_size=1).map(Path),
    st.integers() | st.lists(st.integers(), min_size=1).map(tuple),
    steps,
)


@given(trees)
def test_what_is_written_is_read_back(tree):
    assert from_jsonable(Tree, to_jsonable(tree)) == tree


@given(trees)
def test_the_digest_depends_on_the_content_alone(tree):
    again = from_jsonable(Tree, to_jsonable(tree))
    assert digest(tree) == digest(again)
    assert len(digest(tree)) == 12
    assert digest(tree) != digest(Tree(tree.leaves, tree.path / "other", tree.either, tree.step))


def test_numbers_that_are_no_numbers_survive():
    assert math.isnan(from_jsonable(float, to_jsonable(float("nan"))))
    assert to_jsonable({"a": np.float32(1.5), "b": np.arange(2)}) == {"a": 1.5, "b": [0, 1]}


def test_your_own_callable_is_asked_back():
    def robust(channel, inside):
        return channel

    tree = Tree({}, Path("x"), 1, robust)
    written = to_jsonable(tree)
    assert written["step"] == {"component": "robust"}
    with pytest.raises(StorageError, match=r"your own component 'robust'.*components=\{'robust': robust\}"):
        from_jsonable(Tree, written)
    assert from_jsonable(Tree, written, {"robust": robust}).step is robust


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"type": "os.system"}, "unknown type 'os.system'"),
        ({"type": "Leaf", "numbers": []}, "unknown type 'Leaf'"),
    ],
)
def test_a_type_is_never_found_by_its_name_in_the_file(data, message):
    with pytest.raises(StorageError, match=message):
        from_jsonable(Normalization, data)


def test_what_cannot_be_written_is_named():
    with pytest.raises(StorageError, match="a object cannot be written as JSON"):
        to_jsonable({"x": object()})


@pytest.mark.parametrize(("content", "message"), [(b"{", "not valid JSON"), (b"\xff\xfe", "not valid JSON")])
def test_broken_json_is_named(tmp_path, content, message):
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(StorageError, match=message):
        read_json(tmp_path / "x.json")
    with pytest.raises(StorageError, match=r"cannot read .*gone\.json: No such file"):
        read_json(tmp_path / "gone.json")


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = write_text(tmp_path / "x.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_path(path) as temporary:
        temporary.write_text("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]


def test_folders_are_made_and_files_are_readable_by_others(tmp_path):
    path = write_json(tmp_path / "a" / "b" / "x.json", {"a": 1})
    assert read_json(path) == {"a": 1}
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_temporary_file_keeps_the_format_in_its_name(tmp_path):
    for name in ("x.nii.gz", "x.b2nd"):
        with atomic_path(tmp_path / name) as temporary:
            assert temporary.name.endswith(name.removeprefix("x"))


def test_a_file_where_the_folder_should_be_is_named(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*out/x\.json: .* Nothing half-written was left\. Free some"):
        write_json(tmp_path / "out" / "x.json", 1)
    with pytest.raises(StorageError, match="cannot write"):
        require_writable(tmp_path / "out" / "work")
    assert require_writable(tmp_path / "new") == tmp_path / "new"
    assert not any((tmp_path / "new").iterdir())


FULL = """
import resource, signal, sys
from autoseg.core.errors import StorageError
from autoseg.core.serialization import write_text
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # then a file beyond the limit fails as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
write_text(sys.argv[1], "fits")
try:
    write_text(sys.argv[1], "x" * 5000)
except StorageError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on file sizes to test with")
def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.txt"
    result = subprocess.run([sys.executable, "-c", FULL, path], capture_output=True, text=True, check=True)
    assert f"cannot write {path}: File too large. Nothing half-written was left" in result.stdout
    assert path.read_text() == "fits"
    assert [p.name for p in tmp_path.iterdir()] == ["x.txt"]
