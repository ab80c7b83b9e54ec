"""Images come in as they are in the file, whatever the format, and label maps go out and come back the same."""

from __future__ import annotations

import contextlib
import gzip
import json
import sys

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from making import ball, oblique_grids, voxels, write_volume

import autoseg
from autoseg.core.errors import DatasetError, ImageError, StorageError
from autoseg.data.formats import WRITABLE, suffix_of
from autoseg.data.geometry import Grid
from autoseg.data.images import Image, LabelMap, read_image, read_label_map, to_sitk, write_label_map
from autoseg.data.labels import Labels

LABELS = Labels({"background": 0, "organ": 1, "lesion": 2})
MEDICAL = (".nii.gz", ".nii", ".nrrd", ".mha")


@pytest.mark.parametrize("ending", [*MEDICAL, ".gipl"])
def test_intensities_and_spacing_survive_in_every_format(tmp_path, ending):
    path = write_volume(voxels(1), tmp_path / f"image{ending}", spacing=(3.0, 1.5, 0.75))
    image = read_image([path], ["MRI"])
    np.testing.assert_array_equal(image.array, voxels(1)[None])
    assert image.array.dtype == np.float32
    np.testing.assert_allclose(image.grid.spacing, (3.0, 1.5, 0.75), rtol=1e-6)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(grid=oblique_grids(), ending=st.sampled_from(MEDICAL), highest=st.sampled_from((1, 254, 255, 3000)))
def test_a_label_map_comes_back_where_it_was(tmp_path, grid, ending, highest):
    array = np.random.RandomState(0).randint(0, highest + 1, grid.shape)
    path = write_label_map(LabelMap(array, grid, LABELS), tmp_path / f"map{ending}")
    again = read_label_map(path, LABELS)
    np.testing.assert_array_equal(again.array, array)
    for corner in ((0, 0, 0), grid.shape):
        np.testing.assert_allclose(again.grid.to_world(corner), grid.to_world(corner), atol=2e-2)


@pytest.mark.parametrize("ending", MEDICAL)
def test_nifti_and_itk_agree_where_a_voxel_is(tmp_path, ending):
    grid = Grid.of((4, 5, 6), (2.0, 1.0, 0.5)).transpose((1, 2, 0))
    sitk.WriteImage(to_sitk(voxels(1, grid.shape), grid), str(tmp_path / f"x{ending}"))
    image = read_image([tmp_path / f"x{ending}"], ["MRI"])
    assert image.grid.difference(grid) == ""
    np.testing.assert_array_equal(image.array[0], voxels(1, grid.shape))


def test_scaled_nifti_values_are_the_scaled_ones(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(2.5, -1024)
    nib.save(image, tmp_path / "ct.nii.gz")
    values = read_image([tmp_path / "ct.nii.gz"], ["CT"]).array
    np.testing.assert_allclose(values.ravel().max(), 23 * 2.5 - 1024)


def test_channels_in_one_file(tmp_path):
    stack = np.stack([voxels(1), voxels(2)])
    nib.save(nib.Nifti1Image(stack.T, np.eye(4)), tmp_path / "four.nii.gz")
    image = read_image([tmp_path / "four.nii.gz"], ["T1", "T2"])
    np.testing.assert_array_equal(image.array, stack)
    sitk.WriteImage(sitk.GetImageFromArray(np.moveaxis(stack, 0, -1), isVector=True), str(tmp_path / "vector.nrrd"))
    np.testing.assert_array_equal(read_image([tmp_path / "vector.nrrd"], ["T1", "T2"]).array, stack)


def test_photographs_have_no_size_and_three_colours(tmp_path):
    colours = np.random.RandomState(0).randint(0, 256, (5, 7, 3)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / "x.png"))
    image = read_image([tmp_path / "x.png"], ["R", "G", "B"])
    np.testing.assert_array_equal(image.array, np.moveaxis(colours, -1, 0))
    assert image.grid == Grid.of((5, 7))


def test_real_electron_microscopy(shared_data):
    folder = shared_data / "ISBI2012_EM"
    image = read_image([folder / "images/0.png"], ["EM"])
    assert image.array.shape == (1, 512, 512)
    assert set(np.unique(read_label_map(folder / "labels/0.png", LABELS).array)) == {0, 255}


def test_a_tiff_keeps_its_spacing_in_a_json_beside_it(tmp_path):
    grid = Grid.of(ball().shape, (2.0, 0.5, 0.25))
    path = write_label_map(LabelMap(ball(), grid, LABELS), tmp_path / "cell.tif")
    assert read_label_map(path, LABELS).grid == grid
    write_label_map(LabelMap(ball(), Grid.of(ball().shape), LABELS), tmp_path / "other.tif")
    assert [p.name for p in tmp_path.glob("*.json")] == ["cell.json"]


@pytest.mark.parametrize("ending", [".mhd", ".jpg"])
def test_formats_of_two_files_or_with_loss_are_not_written(tmp_path, ending):
    with pytest.raises(ImageError, match=f"the format {ending} cannot be written"):
        write_label_map(LabelMap(ball(), Grid.of(ball().shape), LABELS), tmp_path / f"a{ending}")


def test_a_tiff_reads_its_spacing_from_the_json_beside_it(tmp_path):
    path = write_volume(voxels(1), tmp_path / "cell_0000.tif")
    assert read_image([path], ["f"]).grid.spacing == (1.0, 1.0, 1.0)
    (tmp_path / "cell.json").write_text(json.dumps({"spacing": [2.0, 0.5, 0.25]}))
    assert read_image([path], ["f"]).grid.spacing == (2.0, 0.5, 0.25)


@pytest.mark.parametrize("content", ["{", "[]", '{"spacing": "wide"}', '{"spacing": [1, 1]}', "{}"])
def test_a_broken_spacing_is_named(tmp_path, content):
    path = write_volume(voxels(1), tmp_path / "cell_0000.tif")
    (tmp_path / "cell.json").write_text(content)
    with pytest.raises(ImageError, match=r"cell\.json"):
        read_image([path], ["f"])


def test_float_labels_that_are_whole_become_integers(tmp_path):
    path = write_volume(ball().astype(np.float32), tmp_path / "map.nii.gz")
    again = read_label_map(path, LABELS).array
    np.testing.assert_array_equal(again, ball())
    assert again.dtype == np.uint8


def test_interpolated_labels_are_refused(tmp_path):
    path = write_volume(ball() * np.float32(0.5), tmp_path / "map.nii.gz")
    with pytest.raises(ImageError, match=r"map\.nii\.gz: \d+ voxels are not whole numbers \(one is 0\.5\)"):
        read_label_map(path, LABELS)


@pytest.mark.parametrize("value", [2**32 + 1, 2**31, -(2**31) - 1])
def test_a_label_value_that_32_bits_cannot_hold_is_refused_and_not_wrapped(tmp_path, value):
    array = ball().astype(np.int64)
    array[0, 0, 0] = value
    path = write_volume(array, tmp_path / "map.mha")
    with pytest.raises(
        ImageError, match=rf"map\.mha holds the value {value}; labels are read from .* to 2,147,483,647"
    ):
        read_label_map(path, LABELS)
    for kind in (np.int64, np.float64):
        dataset = autoseg.dataset_from_arrays([voxels(0)], [array.astype(kind)], label_names=LABELS.names)
        with pytest.raises(DatasetError, match=f"'case_0': the label map holds the value {value}; labels are read"):
            dataset[0].label()


def test_a_label_map_has_one_channel(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4, 2), np.uint8), np.eye(4)), tmp_path / "map.nii.gz")
    with pytest.raises(ImageError, match="has 2 channels; a label map has one integer a voxel"):
        read_label_map(tmp_path / "map.nii.gz", LABELS)


def test_channel_files_must_share_a_grid(tmp_path):
    paths = [
        write_volume(voxels(1), tmp_path / "x_0000.nii.gz"),
        write_volume(voxels(1, (8, 10, 11)), tmp_path / "x_0001.nii.gz"),
    ]
    with pytest.raises(ImageError, match=r"x_0001\.nii\.gz and x_0000\.nii\.gz .* shape 8x10x11 against 8x10x12"):
        read_image(paths, ["T1", "T2"])


@pytest.mark.parametrize("name", ["notes.txt", "scan"])
def test_unknown_formats_list_the_known_ones(tmp_path, name):
    (tmp_path / name).write_text("hello")
    with pytest.raises(ImageError, match=r"format .* is not known\. Readable: nii, nii\.gz"):
        read_image([tmp_path / name], ["MRI"])
    with pytest.raises(ImageError, match="cannot be written"):
        write_label_map(LabelMap(ball(), Grid.of(ball().shape), LABELS), tmp_path / f"{name}.xyz")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match=r"gone\.nii\.gz does not exist"):
        read_image([tmp_path / "gone.nii.gz"], ["MRI"])


@pytest.mark.parametrize("ending", [*MEDICAL, ".png", ".tif"])
def test_files_that_are_something_else_are_refused(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    path.write_bytes(b"this is not an image" * 50)
    with pytest.raises(ImageError, match=rf"x\{ending} cannot be read as .* it has 1000 bytes"):
        read_image([path], ["MRI"])


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_files_that_are_cut_short_are_refused(tmp_path, ending, share):
    path = write_volume(voxels(1), tmp_path / f"x{ending}")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(ImageError, match="may be damaged or cut short"):
        read_image([path], ["MRI"])


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(at=st.integers(0, 351), value=st.integers(0, 255))
def test_a_damaged_header_is_an_error_of_ours_or_none(tmp_path, at, value):
    """Whatever byte of the header is wrong, nothing but an `ImageError` comes out."""
    path = write_volume(voxels(1), tmp_path / "x.nii")
    content = bytearray(path.read_bytes())
    content[at] = value
    path.write_bytes(content)
    with contextlib.suppress(ImageError):
        assert read_image([path], ["MRI"]).array.size


def test_a_gzip_with_a_wrong_checksum_is_refused(tmp_path):
    path = write_volume(voxels(1, (64, 64, 64)), tmp_path / "x.nii.gz")
    plain = gzip.decompress(path.read_bytes())
    packed = bytearray(gzip.compress(plain, compresslevel=0))
    packed[len(packed) // 2 + 100] ^= 255
    path.write_bytes(packed)
    with pytest.raises(ImageError, match="may be damaged"):
        read_image([path], ["MRI"])


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_nan_is_read_as_nan(tmp_path, ending):
    array = voxels(1)
    array[1, 2, 3] = np.nan
    image = read_image([write_volume(array, tmp_path / f"x{ending}")], ["MRI"])
    np.testing.assert_array_equal(np.argwhere(np.isnan(image.array)), [[0, 1, 2, 3]])


def test_an_array_must_fit_its_grid_and_channels():
    with pytest.raises(ImageError, match=r"array of shape \(1, 2, 2\) does not fit the grid \(2, 3\)"):
        Image(np.zeros((1, 2, 2), np.float32), Grid.of((2, 3)), ("a",))
    with pytest.raises(ImageError, match=r"has 1 channel\(s\), but 2 are declared: a, b"):
        Image(np.zeros((1, 2, 3), np.float32), Grid.of((2, 3)), ("a", "b"))
    with pytest.raises(ImageError, match=r"label map of shape \(2, 2\) does not fit the grid \(2, 3\)"):
        LabelMap(np.zeros((2, 2), np.uint8), Grid.of((2, 3)), LABELS)


def test_nothing_half_written_stays_where_a_folder_cannot_be_made(tmp_path):
    (tmp_path / "out").write_text("a file where the folder should be")
    with pytest.raises(StorageError, match="cannot write .*map.nii.gz.* Nothing half-written was left"):
        write_label_map(LabelMap(ball(), Grid.of(ball().shape), LABELS), tmp_path / "out" / "map.nii.gz")
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size")
@pytest.mark.parametrize("share", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("ending", WRITABLE)
def test_a_write_that_the_disk_cuts_short_is_named_and_leaves_nothing(tmp_path, ending, share):
    import resource
    import signal

    flat = ending in (".png", ".bmp")
    array = np.random.RandomState(0).randint(0, 255, (200, 200) if flat else (10, 60, 70)).astype(np.uint8)
    whole = write_label_map(LabelMap(array, Grid.of(array.shape), LABELS), tmp_path / f"whole{ending}")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(share * whole.stat().st_size), before[1]))
    try:
        with pytest.raises(StorageError, match="Nothing half-written was left"):
            write_label_map(LabelMap(array, Grid.of(array.shape), LABELS), tmp_path / f"cut{ending}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, heard)
    assert [p.name for p in tmp_path.iterdir()] == [whole.name]


@pytest.mark.parametrize(
    ("name", "suffix"),
    [("a.nii.gz", ".nii.gz"), ("a.b.NII", ".nii"), ("a.tiff", ".tiff"), ("a.txt", ".txt"), ("a", ""), (".nii", ".nii")],
)
def test_the_suffix_says_the_format(name, suffix):
    assert suffix_of(name) == suffix
