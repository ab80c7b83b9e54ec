"""Every format is read with its voxels and its grid, and a file that cannot be read is named."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from PIL import Image as Pictures

from autoseg.core.errors import ImageError
from autoseg.data.formats import file_state, grid_like, read_grid, read_voxels
from autoseg.data.geometry import Grid
from autoseg.data.images import read_image
from autoseg.data.png import palette_of
from autoseg.data.tiff import channels_apart

GREY = "minisblack"
STACK = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha", ".mhd"])
def test_volumes_keep_voxels_spacing_and_place(tmp_path: Path, suffix: str) -> None:
    image = sitk.GetImageFromArray(STACK)
    image.SetSpacing((0.5, 1.0, 3.0))
    image.SetOrigin((-7.0, 8.0, 9.0))
    sitk.WriteImage(image, str(tmp_path / f"a{suffix}"))
    array, grid = read_voxels(tmp_path / f"a{suffix}")
    assert np.array_equal(array[0], STACK)
    assert grid.spacing == (3.0, 1.0, 0.5)
    assert grid.to_world((0, 0, 0)) == pytest.approx((-7.0, 8.0, 9.0))


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".jpg"])
def test_pictures_are_two_dimensional_and_dots_per_inch_are_no_spacing(tmp_path: Path, suffix: str) -> None:
    Pictures.fromarray(STACK[0]).save(tmp_path / f"a{suffix}", dpi=(300, 300))
    image = read_image([tmp_path / f"a{suffix}"], ("grey",))  # grey BMPs are read as three equal colours
    assert image.array.shape == (1, 4, 5)
    assert image.grid.spacing == (1.0, 1.0)


@pytest.mark.parametrize("said", ["ImageJ=1.54\nchannels=2\nslices=3", 'DimensionOrder="XYCZT" SizeC="2"'])
def test_a_stack_with_channels_among_its_pages_keeps_them_apart(tmp_path: Path, said: str) -> None:
    pages = [Pictures.fromarray(np.full((4, 5), 10 * z + c, np.uint8)) for z in range(3) for c in range(2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo={270: said})
    array, grid = read_voxels(tmp_path / "a.tif")
    assert grid.shape == (3, 4, 5)
    assert array[:, :, 0, 0].tolist() == [[0, 10, 20], [1, 11, 21]]


def test_a_stack_takes_the_spacing_beside_it_then_that_of_its_own_tags(tmp_path: Path) -> None:
    said = "ImageJ=1.53\nunit=micron\nspacing=2.0\n"
    pages = [Pictures.fromarray(page) for page in STACK]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo={270: said, 282: 4.0, 283: 2.0})
    assert read_voxels(tmp_path / "a.tif")[1].spacing == pytest.approx((2e-3, 5e-4, 2.5e-4))
    (tmp_path / "a.json").write_text(json.dumps({"spacing": [3, 2, 1]}))
    assert read_voxels(tmp_path / "a.tif")[1].spacing == (3, 2, 1)


def test_ome_sizes_are_read_in_their_unit(tmp_path: Path) -> None:
    said = '<OME><Pixels PhysicalSizeX="2" PhysicalSizeY="4" PhysicalSizeZ="500" PhysicalSizeZUnit="nm"/></OME>'
    pages = [Pictures.fromarray(page) for page in STACK]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:], tiffinfo={270: said})
    assert read_voxels(tmp_path / "a.tif")[1].spacing == pytest.approx((5e-4, 4e-3, 2e-3))


@pytest.mark.parametrize("unit", ["µm", "\u03bcm", "&#181;m", "um", "\u00c5"])
def test_ome_units_are_known_however_they_are_written(tmp_path: Path, unit: str) -> None:
    said = " ".join(f'PhysicalSize{axis}="2" PhysicalSize{axis}Unit="{unit}"' for axis in "XYZ")
    tifffile.imwrite(
        tmp_path / "a.tif", STACK, description=f"<OME><Pixels {said}/></OME>".encode(), metadata=None, photometric=GREY
    )
    expected = 2e-7 if unit == "\u00c5" else 2e-3
    assert read_voxels(tmp_path / "a.tif")[1].spacing == pytest.approx((expected,) * 3)


@pytest.mark.parametrize("unit", ["furlong", "pixel"])
def test_a_unit_that_is_not_known_is_named_unless_it_means_none(tmp_path: Path, unit: str) -> None:
    said = f"ImageJ=1.53\nunit={unit}\nspacing=2.0\n"
    tifffile.imwrite(tmp_path / "a.tif", STACK, description=said, metadata=None, photometric=GREY, resolution=(1, 1))
    if unit == "pixel":
        assert read_voxels(tmp_path / "a.tif")[1].spacing == (1, 1, 1)
    else:
        with pytest.raises(
            ImageError, match=r"a\.tif gives the size of its voxels in 'furlong', .* to a\.json beside it"
        ):
            read_voxels(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["XYZCT", "XYZTC", "XYTZC", "XYCZT", "XYCTZ", "XYTCZ"])
def test_channels_and_slices_are_told_apart_by_the_order_that_ome_says(tmp_path: Path, order: str) -> None:
    drawn = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    slices_first = order.index("Z") < order.index("C")
    pages = (drawn if slices_first else np.moveaxis(drawn, 0, 1)).reshape(6, 4, 5)
    said = f'<OME><Pixels DimensionOrder="{order}" SizeC="2" SizeT="1" SizeZ="3"/></OME>'
    tifffile.imwrite(tmp_path / "a.tif", pages, description=said, metadata=None, photometric=GREY)
    assert np.array_equal(read_voxels(tmp_path / "a.tif")[0], drawn)


@pytest.mark.parametrize("said", ["ImageJ=1.53\nframes=3\n", '<OME><Pixels SizeC="1" SizeT="3" SizeZ="1"/></OME>'])
def test_time_points_are_no_slices(tmp_path: Path, said: str) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, description=said, metadata=None, photometric=GREY)
    with pytest.raises(ImageError, match=r"a\.tif holds 3 time points .* Save each as a file"):
        read_voxels(tmp_path / "a.tif")


def test_numpy_files_are_images_with_an_optional_spacing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", STACK)
    np.savez(tmp_path / "b.npz", image=STACK, spacing=(3, 1, 1))
    assert np.array_equal(read_voxels(tmp_path / "a.npy")[0][0], STACK)
    assert read_voxels(tmp_path / "b.npz")[1].spacing == (3, 1, 1)


def test_a_dicom_series_is_one_image(shared_data: Path) -> None:
    array, grid = read_voxels(shared_data / "samples/dicom_series")
    assert array.shape == (1, *grid.shape)
    assert grid.shape[0] == 17


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "two.npz", a=STACK, b=STACK)
    np.save(tmp_path / "line.npy", np.zeros(4))
    (tmp_path / "a.xyz").write_text("")
    (tmp_path / "cut.nii.gz").write_bytes(b"\x1f\x8b")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "two.npz").read_bytes()[:-40])
    (tmp_path / "empty").mkdir()
    Pictures.fromarray(STACK[0]).save(tmp_path / "a.tif")
    (tmp_path / "a.json").write_text('{"spacing": "wide"}')
    for name, message in {
        "two.npz": "holds 2 arrays",
        "line.npy": r"shape \(4,\)",
        "a.xyz": r"the format \.xyz is not known\. Readable",
        "cut.nii.gz": r"cannot be read as \.nii\.gz",
        "cut.npz": r"cannot be read as \.npz: File is not a zip file\. It may be damaged",
        "empty": "holds no DICOM series",
        "a.tif": "does not say",
        "none.nii": "does not exist",
    }.items():
        with pytest.raises(ImageError, match=message):
            read_voxels(tmp_path / name)


def write_tiles(path: Path, pages: np.ndarray, *, tile: int = 16) -> Path:
    """Pages (page, y, x) of 16 bits as a little-endian TIFF of square tiles, which no library here writes."""
    content, starts = bytearray(b"II*\0\0\0\0\0"), []
    for page in pages.astype("<u2"):
        offsets = []
        for y, x in np.ndindex(page.shape[0] // tile, page.shape[1] // tile):
            offsets.append(len(content))
            content += page[y * tile : (y + 1) * tile, x * tile : (x + 1) * tile].tobytes()
        at = len(content)
        content += struct.pack(f"<{2 * len(offsets)}I", *offsets, *[2 * tile * tile] * len(offsets))
        sizes = [(256, page.shape[1]), (257, page.shape[0]), (258, 16), (259, 1), (262, 1), (277, 1)]
        tiles = [(322, 1, tile), (323, 1, tile), (324, len(offsets), at), (325, len(offsets), at + 4 * len(offsets))]
        entries = [(tag, 1, value) for tag, value in sizes] + tiles
        starts.append(len(content))
        content += struct.pack("<H", len(entries))
        content += b"".join(struct.pack("<HHII", tag, 4, count, value) for tag, count, value in entries) + bytes(4)
    for at, start in zip([4, *(s + 2 + 12 * 10 for s in starts)], starts, strict=False):
        content[at : at + 4] = struct.pack("<I", start)
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("pages", [1, 3])
def test_sixteen_bits_in_tiles_are_not_brought_to_eight(tmp_path: Path, pages: int) -> None:
    drawn = np.random.default_rng(0).integers(0, 1 << 16, (pages, 32, 48)).astype(np.uint16)
    array, grid = read_voxels(write_tiles(tmp_path / "a.tif", drawn))
    assert np.array_equal(array, drawn if pages == 1 else drawn[None])
    assert grid.shape == array.shape[1:]


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiffs_of_a_compression_that_itk_lacks_are_read(tmp_path: Path, compression: str, kind: type) -> None:
    for name, pages in (("stack", STACK.astype(kind)), ("page", STACK[:1].astype(kind))):
        first, *others = map(Pictures.fromarray, pages)
        said = {270: "ImageJ=1.11a\nspacing=3\nunit=mm"}
        first.save(
            tmp_path / f"{name}.tif", save_all=True, append_images=others, compression=compression, tiffinfo=said
        )
        array, grid = read_voxels(tmp_path / f"{name}.tif")
        assert array.dtype == kind
        assert np.array_equal(array, pages if name == "page" else pages[None])
        assert grid.shape == array.shape[1:]


def test_colours_of_a_compression_that_itk_lacks_are_channels(tmp_path: Path) -> None:
    Pictures.fromarray(np.moveaxis(STACK, 0, -1)).save(tmp_path / "a.tif", compression="zstd")
    assert np.array_equal(read_voxels(tmp_path / "a.tif")[0], STACK)


def test_floats_in_tiles_are_read(tmp_path: Path) -> None:
    drawn = np.random.default_rng(0).normal(size=(32, 48)).astype(np.float32)
    tifffile.imwrite(tmp_path / "a.tif", drawn, tile=(16, 16))
    assert np.array_equal(read_voxels(tmp_path / "a.tif")[0][0], drawn)


def test_tiffs_of_a_kind_that_nothing_here_reads_are_not_called_damaged(tmp_path: Path) -> None:
    plain = tmp_path / "codec.tif"
    Pictures.fromarray(STACK[0]).save(plain, compression="zstd")
    of_jpeg_xl = [struct.pack("<HHII", 259, 3, 1, number) for number in (50000, 50002)]
    plain.write_bytes(plain.read_bytes().replace(*of_jpeg_xl))
    for name, kind in (("double", np.float64), ("half", np.float16)):
        tifffile.imwrite(tmp_path / f"{name}.tif", STACK[0].astype(kind))
    with tifffile.TiffWriter(tmp_path / "pyramid.tif") as file:
        for size in (64, 32):
            file.write(np.ones((size, size), np.uint16), tile=(16, 16))
    reasons = {
        "codec": "compressed by JPEG XL",
        "double": "64-bit samples",
        "half": "voxels of a type, or so many channels, that they would be mixed up",
        "pyramid": "2 pages of different sizes, as a pyramid has",
    }
    for name, reason in reasons.items():
        with pytest.raises(
            ImageError, match=rf"{name}\.tif is a TIFF of a kind that is not read here: {reason}\. Save it"
        ):
            read_voxels(tmp_path / f"{name}.tif")


def test_interleaved_channels_that_itk_mixes_up_are_refused_beside_a_spacing_too(tmp_path: Path) -> None:
    drawn = np.moveaxis(np.ones((5, 4, 6), np.uint16), 0, -1)
    tifffile.imwrite(tmp_path / "a.tif", drawn, photometric=GREY, planarconfig="contig")
    (tmp_path / "a.json").write_text('{"spacing": [1, 2]}')
    with pytest.raises(ImageError, match="so many channels, that they would be mixed up"):
        read_voxels(tmp_path / "a.tif")


def test_an_image_that_is_gone_is_named_when_its_label_map_asks_for_its_spacing(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"the spacing of .*a\.tif cannot be read: .*No such file"):
        grid_like(tmp_path / "a.tif", tmp_path / "label.tif", Grid.of((4, 5)))


def test_tiles_that_lie_beyond_the_end_of_a_file_are_damage(tmp_path: Path) -> None:
    path = write_tiles(tmp_path / "a.tif", np.ones((1, 32, 48), np.uint16))
    content = path.read_bytes()
    (offsets,) = struct.unpack_from("<I", content, content.index(struct.pack("<HHI", 324, 4, 6)) + 8)
    path.write_bytes(content[:offsets] + struct.pack("<I", 10**8) + content[offsets + 4 :])
    with pytest.raises(ImageError, match=r"a\.tif cannot be read as \.tif: .* It may be damaged or cut short"):
        read_voxels(path)


def changed_nifti(path: Path, at: int, *values: float) -> Path:
    """A NIfTI of 3x1x0.5 mm, with other numbers from one byte of its header on."""
    nib.save(nib.Nifti1Image(STACK.astype(np.int16).T, np.diag([0.5, 1, 3, 1])), path)
    content = bytearray(path.read_bytes())
    content[at : at + 4 * len(values)] = struct.pack(f"<{len(values)}f", *values)
    path.write_bytes(content)
    return path


def test_voxels_begin_after_the_header_where_it_says_that_they_begin_at_zero(tmp_path: Path) -> None:
    assert np.array_equal(read_voxels(changed_nifti(tmp_path / "a.nii", 108, 0))[0][0], STACK)


@pytest.mark.parametrize(
    ("pixdim", "spacing"),
    [((0, 0, 0), (3, 1, 0.5)), ((0.7, 1, np.nan), (3, 1, 0.7)), ((0.7, 1, 2), (2, 1, 0.7)), ((1, 1, 1), (1, 1, 1))],
)
def test_the_sform_says_the_spacing_where_pixdim_does_not(tmp_path: Path, pixdim: tuple, spacing: tuple) -> None:
    path = changed_nifti(tmp_path / "a.nii", 80, *pixdim)
    assert read_grid(path).spacing == read_voxels(path)[1].spacing == pytest.approx(spacing)


@pytest.mark.parametrize(
    ("name", "key"), [("a.nhdr", "data file: "), ("a.mhd", "ElementDataFile = "), ("a.nhdr", "data file: LIST\n")]
)
def test_the_state_of_a_header_changes_with_the_file_that_it_names(tmp_path: Path, name: str, key: str) -> None:
    (tmp_path / name).write_text(f"other: 1\n{key}voxels.dat\n\n")
    (tmp_path / "voxels.dat").write_bytes(b"1")
    before = file_state(tmp_path / name)
    (tmp_path / "voxels.dat").write_bytes(b"22")
    assert file_state(tmp_path / name) != before


@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("vector", [True, False])
@pytest.mark.parametrize("count", [1, 2])
def test_channels_are_the_components_of_a_voxel_or_a_fourth_axis(
    tmp_path: Path, suffix: str, vector: bool, count: int
) -> None:
    drawn = np.random.default_rng(0).normal(size=(count, 3, 4, 5)).astype(np.float32)
    written = sitk.GetImageFromArray(np.moveaxis(drawn, 0, -1) if vector else drawn, isVector=vector)
    written.SetSpacing((0.5, 1, 3, 1)[: written.GetDimension()])
    sitk.WriteImage(written, str(tmp_path / f"a{suffix}"))
    array, grid = read_voxels(tmp_path / f"a{suffix}")
    assert np.array_equal(array, drawn)
    assert grid.spacing == read_grid(tmp_path / f"a{suffix}").spacing == (3, 1, 0.5)


def test_time_points_of_several_channels_are_no_image(tmp_path: Path) -> None:
    nib.save(nib.Nifti1Image(np.zeros((5, 4, 3, 2, 2), np.uint8), np.eye(4)), tmp_path / "a.nii")
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4, 5, 2), np.uint8), isVector=True), str(tmp_path / "a.mha"))
    for name in ("a.nii", "a.mha"):
        with pytest.raises(ImageError, match="holds 2 time points of several channels"):
            read_voxels(tmp_path / name)


@pytest.mark.parametrize("way", ["alpha", "transparent value"])
def test_grey_pngs_with_transparency_are_grey(tmp_path: Path, way: str) -> None:
    pixels = np.stack([STACK[0], np.full_like(STACK[0], 255)], -1) if way == "alpha" else STACK[0]
    Pictures.fromarray(pixels).save(tmp_path / "a.png", **({} if way == "alpha" else {"transparency": 0}))
    assert np.array_equal(read_voxels(tmp_path / "a.png")[0], STACK[:1])


def test_grey_of_sixteen_bits_with_alpha_is_refused_for_pillow_makes_eight(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + bytes(range(4 * 4)) for _ in range(4))
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 4, 4, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in parts]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    with pytest.raises(ImageError, match=r"a\.png is grey of 16 bits with alpha\. Save it without alpha"):
        read_voxels(tmp_path / "a.png")


def test_what_is_sound_but_not_read_is_not_called_damaged(tmp_path: Path) -> None:
    sheared = np.diag([2.0, 3, 4, 1])
    sheared[0, 1] = 0.002
    nib.save(nib.Nifti1Image(STACK, sheared), tmp_path / "sheared.nii.gz")
    nib.save(nib.Nifti2Image(STACK, np.eye(4)), tmp_path / "two.nii.gz")
    for name, advice in {"sheared": "Its header shears", "two": "It is NIfTI-2. Save it as NIfTI-1"}.items():
        with pytest.raises(ImageError, match=advice) as raised:
            read_voxels(tmp_path / f"{name}.nii.gz")
        assert "damaged" not in str(raised.value)


def test_complex_and_record_voxels_are_named(tmp_path: Path) -> None:
    for name, kind in (("c", np.complex64), ("r", np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]))):
        nib.save(nib.Nifti1Image(np.zeros((4, 5, 6), kind), np.eye(4)), tmp_path / f"{name}.nii")
        with pytest.raises(ImageError, match="an image holds real numbers"):
            read_voxels(tmp_path / f"{name}.nii")


def test_the_palette_of_a_png_comes_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    colours = ((0, 0, 0), (200, 0, 0), (0, 90, 0))
    picture = Pictures.fromarray(np.array([[0, 1], [2, 1]], np.uint8), mode="L")
    picture.save(tmp_path / "grey.png")
    picture.putpalette([value for colour in colours for value in colour])
    picture.save(tmp_path / "palette.png")
    assert palette_of(tmp_path / "palette.png")[:3] == colours
    (tmp_path / "none.png").write_bytes(b"no picture")
    assert palette_of(tmp_path / "grey.png") == palette_of(tmp_path / "none.png") == ()


@pytest.mark.parametrize("kept", [0.9, 0.5])
def test_a_stack_cut_short_is_refused_and_not_read_as_its_first_page(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((5, 40, 30), np.uint16), photometric=GREY)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(ImageError, match=r"a\.tif is cut short: it has \d+ bytes, and some of its pages lie beyond"):
        read_voxels(path)


def test_several_images_of_one_ome_tiff_are_not_taken_for_slices(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as writer:
        for image in (STACK, STACK + 100):
            writer.write(image, photometric=GREY, metadata={"axes": "ZYX"})
    with pytest.raises(ImageError, match=r"a\.ome\.tif holds 2 images, as OME counts them; a file is one here"):
        read_voxels(tmp_path / "a.ome.tif")


def test_an_ome_tiff_of_a_set_may_tell_of_the_images_in_the_other_files() -> None:
    said = "".join(f'<Image><Pixels SizeC="1"><UUID FileName="{name}"/></Pixels></Image>' for name in "ab")
    assert channels_apart(STACK, said).shape == (1, *STACK.shape)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_picture_larger_than_pillow_opens_is_refused_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    Pictures.fromarray(np.zeros((40, 40, 2), np.uint8), "LA").save(tmp_path / name)
    monkeypatch.setattr(Pictures, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ImageError, match=r"is larger than Pillow opens: .*1600 pixels.*MAX_IMAGE_PIXELS = None"):
        read_voxels(tmp_path / name)
