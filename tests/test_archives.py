"""Zip files from anywhere: read in memory, refused with a sentence where they are up to something."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.archives import open_archive, write_archive
from autoseg.core.errors import StorageError


def zipped(path, entries, kind=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in entries:
            file.writestr(name, content)
    return path


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}(/[a-z]{1,8})?", fullmatch=True), st.binary(max_size=200), max_size=4))
def test_what_was_written_is_read(entries):
    with tempfile.TemporaryDirectory() as folder, open_archive(write_archive(f"{folder}/x.zip", entries)) as archive:
        assert {name: archive.read(name) for name in archive.names} == entries


def test_equal_content_gives_equal_files(tmp_path):
    one, two = (write_archive(tmp_path / n, {"a": b"1", "b/c": b"2" * 999}, compress=True) for n in ("1.zip", "2.zip"))
    assert one.read_bytes() == two.read_bytes()
    with open_archive(one) as archive:
        assert archive.names == ("a", "b/c")


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/etc/evil", "..\\evil", "C:evil", "\\\\host\\evil"])
def test_entries_that_point_out_of_the_folder_are_refused(tmp_path, name):
    path = zipped(tmp_path / "x.zip", [("plans.json", "{}"), (name, "evil")])
    with pytest.raises(StorageError, match=r"points out of its folder. It was not opened"), open_archive(path):
        pass
    assert [p.name for p in tmp_path.rglob("*")] == ["x.zip"]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path):
    path = zipped(tmp_path / "x.zip", [("plans.json", bytes(50_000_000))], zipfile.ZIP_DEFLATED)
    with pytest.raises(StorageError, match=r"would unpack 48,\d+ bytes to 50,000,000, as no model does"):
        open_archive(path).__enter__()


def test_an_entry_that_hides_another_is_refused(tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        path = zipped(tmp_path / "x.zip", [("plans.json", "{}"), ("plans.json", "[]")])
    with pytest.raises(StorageError, match="two entries called 'plans.json'"), open_archive(path):
        pass


@pytest.mark.parametrize("share", [0.0, 0.3, 0.98])
def test_a_file_that_is_cut_short_says_so(tmp_path, share):
    path = zipped(tmp_path / "x.zip", [("plans.json", b"x" * 5000)])
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(StorageError, match="damaged or cut short"), open_archive(path):
        pass


def test_a_damaged_entry_is_named(tmp_path):
    path = zipped(tmp_path / "x.zip", [("plans.json", b"x" * 5000)])
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with open_archive(path) as archive, pytest.raises(StorageError, match="plans.json in .* is damaged: Bad CRC"):
        archive.read("plans.json")


def test_a_missing_entry_is_answered_with_those_that_are_there(tmp_path):
    with (
        open_archive(zipped(tmp_path / "x.zip", [("a", b"")])) as archive,
        pytest.raises(StorageError, match="holds no b; it holds a"),
    ):
        archive.read("b")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    entry = zipfile.ZipInfo("model.json")
    entry.create_system, entry.external_attr = 3, (kind | 0o777) << 16
    with (
        pytest.raises(StorageError, match="holds 'model.json', a link or a device, as no model does"),
        open_archive(zipped(tmp_path / "x.zip", [(entry, "/etc/passwd")])),
    ):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no named pipes in folders")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "x.zip")
    with pytest.raises(StorageError, match="x.zip is no file"), open_archive(tmp_path / "x.zip"):
        pass
