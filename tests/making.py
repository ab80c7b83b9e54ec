"""Small datasets made on the spot, for tests that need files."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk
from hypothesis import strategies as st

from autoseg.data.geometry import Grid

ENDING = ".nii.gz"
LABELS = {"background": 0, "organ": 1, "lesion": 2}


def voxels(seed: int, shape=(8, 10, 12)) -> np.ndarray:
    """Noise with a brighter ball."""
    random = np.random.RandomState(seed)
    return (random.normal(100, 10, shape) + 60 * (ball(shape) > 0)).astype(np.float32)


def ball(shape=(8, 10, 12)) -> np.ndarray:
    """An organ (1) with a lesion (2) in its middle."""
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    radius = np.sqrt(sum(a**2 for a in axes))
    return ((radius < 0.7).astype(np.uint8) + (radius < 0.35)).astype(np.uint8)


def write_volume(array: np.ndarray, path: Path, spacing=None) -> Path:
    """Write an array (z, y, x) by the library that does not belong to what is tested: nibabel for NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    spacing = tuple(spacing or (1.0,) * array.ndim)
    if path.name.endswith((".nii", ".nii.gz")):
        nib.save(nib.Nifti1Image(array.T, np.diag([*spacing[::-1], 1.0][: 3 + 1])), path)
    else:
        image = sitk.GetImageFromArray(array)
        image.SetSpacing(spacing[::-1])
        sitk.WriteImage(image, str(path))
    return path


def make_dataset(folder: Path, *, cases=6, shape=(8, 10, 12), ending=ENDING, channels=("MRI",), test=0) -> Path:
    """A dataset in nnU-Net's raw layout: case_0, case_1, ..."""
    for number in range(cases):
        for channel in range(len(channels)):
            image = voxels(10 * number + channel, shape)
            write_volume(image, folder / "imagesTr" / f"case_{number}_{channel:04d}{ending}")
        write_volume(ball(shape), folder / "labelsTr" / f"case_{number}{ending}")
    for number in range(test):
        write_volume(voxels(900 + number, shape), folder / "imagesTs" / f"test_{number}_0000{ending}")
    facts = {
        "channel_names": {str(i): name for i, name in enumerate(channels)},
        "labels": LABELS,
        "numTraining": cases,
        "file_ending": ending,
    }
    write_facts(folder, facts)
    return folder


def write_facts(folder: Path, facts: dict) -> None:
    """Write dataset.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "dataset.json").write_text(json.dumps(facts))


def change_facts(folder: Path, **changes) -> None:
    """Change entries of dataset.json; None removes one."""
    facts = json.loads((folder / "dataset.json").read_text()) | changes
    write_facts(folder, {k: v for k, v in facts.items() if v is not None})


@st.composite
def oblique_grids(draw):
    """Any grid with three axes: turned, flipped, anywhere."""
    shape, spacing = (draw(st.tuples(*[each] * 3)) for each in (st.integers(1, 30), st.floats(0.05, 8)))
    origin = draw(st.tuples(*[st.floats(-300, 300)] * 3))
    axes, _ = np.linalg.qr(np.random.RandomState(draw(st.integers(0, 10**6))).standard_normal((3, 3)))
    return Grid(shape, spacing, origin, tuple(map(tuple, axes.tolist())))
