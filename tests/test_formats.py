"""Formats: each gives its voxels and its grid, or says what is wrong with the file."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from making import voxels
from PIL import Image as Pictures
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from autoseg.core.errors import ImageError
from autoseg.data.formats import read_voxels


def test_numpy_files_are_images(tmp_path):
    np.save(tmp_path / "a.npy", voxels(0))
    array, grid = read_voxels(tmp_path / "a.npy")
    assert array.shape == (1, 8, 10, 12)
    assert grid.spacing == (1.0, 1.0, 1.0)
    np.savez(tmp_path / "b.npz", image=voxels(0), spacing=[3.0, 1.0, 1.0])
    assert read_voxels(tmp_path / "b.npz")[1].spacing == (3.0, 1.0, 1.0)


def test_a_numpy_file_that_is_no_image_is_refused(tmp_path):
    np.savez(tmp_path / "two.npz", a=voxels(0), b=voxels(1))
    with pytest.raises(ImageError, match=r"two.npz holds 2 arrays \(a, b\)"):
        read_voxels(tmp_path / "two.npz")
    np.save(tmp_path / "line.npy", np.zeros(5))
    with pytest.raises(ImageError, match=r"line.npy holds an array of shape \(5,\)"):
        read_voxels(tmp_path / "line.npy")
    np.save(tmp_path / "objects.npy", np.array([object()]), allow_pickle=True)
    with pytest.raises(ImageError, match=r"objects.npy cannot be read as .npy"):
        read_voxels(tmp_path / "objects.npy")


def stack(path, description, *, resolution=None):
    pages = [Pictures.fromarray(page) for page in np.random.RandomState(0).randint(0, 255, (4, 10, 12), np.uint8)]
    tags = ImageFileDirectory_v2()
    tags[270] = description
    if resolution:
        tags[282] = tags[283] = resolution
    pages[0].save(path, save_all=True, append_images=pages[1:], tiffinfo=tags)
    return path


def test_imagej_says_the_spacing_of_a_stack(tmp_path):
    path = stack(tmp_path / "a.tif", "ImageJ=1.53\nimages=4\nunit=micron\nspacing=2.0\n", resolution=4.0)
    array, grid = read_voxels(path)
    assert array.shape == (1, 4, 10, 12)
    np.testing.assert_allclose(grid.spacing, (2e-3, 0.25e-3, 0.25e-3))


def test_ome_says_the_spacing_of_a_stack(tmp_path):
    sizes = 'PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="1.5" PhysicalSizeZUnit="\u00b5m"'
    path = stack(tmp_path / "a.tif", f'<OME xmlns="x"><Pixels {sizes}/></OME>'.replace("\u00b5", "u"))
    np.testing.assert_allclose(read_voxels(path)[1].spacing, (1.5e-3, 0.5e-3, 0.5e-3))


def test_dots_per_inch_are_no_spacing(tmp_path):
    assert read_voxels(stack(tmp_path / "a.tif", "made by a camera", resolution=72.0))[1].spacing == (1.0, 1.0, 1.0)


def test_a_dicom_series_is_one_image(shared_data):
    array, grid = read_voxels(shared_data / "samples/dicom_series")
    assert array.shape[:2] == (1, 17)
    expected = sitk.ImageSeriesReader()
    expected.SetFileNames(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(shared_data / "samples/dicom_series")))
    np.testing.assert_array_equal(array[0], sitk.GetArrayFromImage(expected.Execute()))
    assert min(grid.spacing) > 0


def test_a_folder_without_a_series_is_refused(tmp_path):
    with pytest.raises(ImageError, match="holds no DICOM series; an image is one"):
        read_voxels(tmp_path)


def test_an_unknown_format_is_named(tmp_path):
    (tmp_path / "a.xyz").write_text("")
    with pytest.raises(ImageError, match=r"a.xyz: the format .xyz is not known. Readable: nii"):
        read_voxels(tmp_path / "a.xyz")
