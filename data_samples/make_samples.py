"""Makes the dataset that comes with autoseg: the seahorse, a phantom of an organ that is bent like the hippocampus.

    python data_samples/make_samples.py [FOLDER]

writes ``Task90_Seahorse`` (Medical Segmentation Decathlon layout) into the folder, by default the one this file is in.
The organ has a thick head and a thin, curved tail; label maps tell the two apart. Around it lie white matter, a folded
cortex and a rounded nucleus of the organ's own intensity, and fluid. Every case has its own pose, size, bend, contrast,
bias field and noise, and its annotator's hand shakes a little, so that no model can reach a Dice of 1.

Voxels depend on numpy's frozen `RandomState` and on separable filters only, and are rounded to whole numbers, so every
machine makes the same. Zip libraries differ in how they pack the same bytes: a file whose content is right already is
left as it is, and running this again changes nothing.
"""

from __future__ import annotations

import gzip
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

NAME = "Task90_Seahorse"
TRAINING, TEST = 26, 4
SEED = 1735  # Linnaeus' Systema Naturae
HEAD, TAIL = 1, 2
POINTS = 160  # of the organ's centre line


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """One subject: what lies where, in voxels of 1 mm, and what the scanner makes of it."""

    shape: tuple[int, int, int]
    centre: np.ndarray
    turn: np.ndarray  # 3x3, the organ's own axes in the scan
    size: float
    bend: float
    hook: float
    head_share: float  # of the centre line's length
    head_radius: float
    tail_radius: float
    gray: float  # intensities; white matter is 1
    fluid: float
    gain: float
    noise: float


def draw_anatomy(random: np.random.RandomState) -> Anatomy:
    """Draw a subject."""
    shape = tuple(int(n) for n in random.randint((36, 44, 36), (45, 53, 45)))
    angles = np.radians(random.normal(0, (9, 9, 12)))
    return Anatomy(
        shape=shape,
        centre=np.array(shape) / 2 + random.normal(0, 1.6, 3),
        turn=rotation(angles),
        size=random.uniform(0.86, 1.16),
        bend=random.uniform(0.7, 1.35),
        hook=random.uniform(0.5, 1.3),
        head_share=random.uniform(0.36, 0.48),
        head_radius=random.uniform(4.8, 6.2),
        tail_radius=random.uniform(3.4, 4.3),
        gray=random.uniform(0.62, 0.75),
        fluid=random.uniform(0.18, 0.32),
        gain=float(np.exp(random.uniform(np.log(220), np.log(900)))),
        noise=random.uniform(0.03, 0.07),
    )


def rotation(angles: np.ndarray) -> np.ndarray:
    """Rotations about the three axes, one after the other."""
    matrix = np.eye(3)
    for axis, angle in enumerate(angles):
        i, j = [a for a in range(3) if a != axis]
        step = np.eye(3)
        step[i, i] = step[j, j] = np.cos(angle)
        step[i, j], step[j, i] = -np.sin(angle), np.sin(angle)
        matrix = step @ matrix
    return matrix


def smooth_noise(random: np.random.RandomState, shape: tuple[int, ...], width: float | tuple[float, ...]) -> np.ndarray:
    """Normal noise smoothed to a correlation length of `width` voxels, with deviation 1 again."""
    field = ndimage.gaussian_filter(random.standard_normal(shape), width, mode="nearest", truncate=4.0)
    return (field - field.mean()) / field.std()


def centre_line(body: Anatomy) -> tuple[np.ndarray, np.ndarray]:
    """Points (n, 3) of the organ's centre line from head to tail, and its radius at each."""
    t = np.linspace(0, 1, POINTS)
    along = (t - 0.47) * 33
    sideways = body.bend * 7.5 * ((t - 0.3) ** 2 * 3.2 - 0.35)
    lift = body.hook * 4.5 * (np.exp(-(((t - 0.05) / 0.16) ** 2)) - 0.9 * t)
    line = body.size * np.stack([lift, along, sideways], axis=1) @ body.turn.T + body.centre
    step = 1 / (1 + np.exp((t - body.head_share) / 0.055))
    radius = body.tail_radius + (body.head_radius - body.tail_radius) * step
    return line, body.size * radius * np.sqrt(np.clip(np.minimum(t / 0.06, (1 - t) / 0.1) + 0.25, 0, 1))


def distance_to(line: np.ndarray, radius: np.ndarray, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Signed distance to the tube (negative inside), flattened to an oval, and the nearest point's number."""
    axes = [np.arange(n, dtype=float).reshape(np.roll((-1, 1, 1), a)) for a, n in enumerate(shape)]
    nearest, number = np.full(shape, np.inf), np.zeros(shape, int)
    for i, (point, r) in enumerate(zip(line, radius, strict=True)):
        z, y, x = (((a - p) * w) ** 2 for a, p, w in zip(axes, point, (1.18, 1.0, 0.88), strict=True))
        distance = np.sqrt(z + y + x) - r
        closer = distance < nearest
        nearest[closer], number[closer] = distance[closer], i
    return nearest, number


def annotate(body: Anatomy, distance: np.ndarray, number: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """The annotator's label map: the border shakes, and the cut between head and tail is a matter of opinion."""
    shaking = 0.3 * smooth_noise(random, body.shape, 1.2)
    cut = POINTS * (body.head_share + random.normal(0, 0.012))
    inside = distance + shaking < 0
    return np.where(inside, np.where(number + 1.5 * smooth_noise(random, body.shape, 2.0) < cut, HEAD, TAIL), 0)


def paint(body: Anatomy, distance: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Tissue intensities without noise: white matter, what lies around the organ, and the organ on top."""
    tissue = np.ones(body.shape)
    folds = smooth_noise(random, body.shape, (2.6, 4.2, 2.6))
    region = smooth_noise(random, body.shape, 7.0)
    away = distance > 3.5 + 2.5 * smooth_noise(random, body.shape, 4.0)
    cortex = away & (region > -0.35)
    tissue[cortex & (abs(folds) < 0.52)] = body.gray  # as bright as the organ
    tissue[cortex & (abs(folds) < 0.15)] = body.fluid  # the sulcus between two folds
    tissue[away & (region < -1.1)] = 0.5 * (1 + body.gray)  # a nucleus with much white matter in it
    place = body.centre + body.size * body.turn @ (random.normal(0, 1.2, 3) + (9.0, -9.5, 1.0))
    tissue[blob(place, body.size * random.uniform(4.5, 6.5, 3), body.shape, random) < 0] = body.gray * 1.03
    rim = distance + 0.9 * smooth_noise(random, body.shape, 2.5)
    side = smooth_noise(random, body.shape, 6.0)
    tissue[(rim < 2.1) & (side > 0.35)] = body.fluid  # fluid lies on one side of it, white matter on the other
    tissue[distance < 0] = body.gray
    layers = 0.05 * np.cos(1.9 * distance) * (distance < 0)
    return tissue + layers + 0.05 * smooth_noise(random, body.shape, 1.4)


def blob(centre: np.ndarray, radii: np.ndarray, shape: tuple[int, ...], random: np.random.RandomState) -> np.ndarray:
    """An uneven ellipsoid: negative inside."""
    axes = np.meshgrid(*(np.arange(n, dtype=float) for n in shape), indexing="ij")
    squares = sum(((a - c) / r) ** 2 for a, c, r in zip(axes, centre, radii, strict=True))
    return np.sqrt(squares) - 1 + 0.12 * smooth_noise(random, shape, 3.0)


def scan(body: Anatomy, tissue: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """What the scanner makes of it: partial volume, a bias field, and noise as magnitude images have it (Rician)."""
    blurred = ndimage.gaussian_filter(tissue, 0.62, mode="nearest", truncate=4.0)
    signal = blurred * np.exp(0.13 * smooth_noise(random, body.shape, 14.0))
    real, imaginary = body.noise * random.standard_normal((2, *body.shape))
    return np.rint(body.gain * np.sqrt((signal + real) ** 2 + imaginary**2)).astype(np.int16)


def make_case(number: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label map of one case, arrays (x, y, z) as NIfTI stores them."""
    random = np.random.RandomState([SEED, number])
    body = draw_anatomy(random)
    distance, nearest = distance_to(*centre_line(body), body.shape)
    uneven = distance + 0.55 * smooth_noise(random, body.shape, 3.0)
    label = annotate(body, uneven, nearest, random)
    image = scan(body, paint(body, uneven, random), random)
    return image.transpose(2, 1, 0), label.astype(np.uint8).transpose(2, 1, 0)


def write_nifti(array: np.ndarray, path: Path) -> None:
    """Write with 1 mm voxels, unless the same content is there already."""
    content = nib.Nifti1Image(np.asfortranarray(array), np.eye(4)).to_bytes()
    if path.exists() and gzip.decompress(path.read_bytes()) == content:
        return
    packed = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(packed.getvalue())


def describe() -> dict[str, object]:
    """The content of dataset.json."""
    names = [f"seahorse_{i:03d}.nii.gz" for i in range(1, TRAINING + TEST + 1)]
    return {
        "name": "Seahorse",
        "description": "A phantom: the head and tail of a bent organ in simulated MR, made by make_samples.py",
        "licence": "CC0-1.0",
        "tensorImageSize": "3D",
        "modality": {"0": "MRI"},
        "labels": {"0": "background", str(HEAD): "head", str(TAIL): "tail"},
        "numTraining": TRAINING,
        "numTest": TEST,
        "training": [{"image": f"./imagesTr/{n}", "label": f"./labelsTr/{n}"} for n in names[:TRAINING]],
        "test": [f"./imagesTs/{n}" for n in names[TRAINING:]],
    }


def main(folder: Path) -> None:
    """Write the whole dataset."""
    root = folder / NAME
    for number in range(1, TRAINING + TEST + 1):
        image, label = make_case(number)
        name = f"seahorse_{number:03d}.nii.gz"
        write_nifti(image, root / ("imagesTr" if number <= TRAINING else "imagesTs") / name)
        if number <= TRAINING:
            write_nifti(label, root / "labelsTr" / name)
    (root / "dataset.json").write_text(json.dumps(describe(), indent=1) + "\n", encoding="utf-8")
    print(f"{root}: {sum(p.stat().st_size for p in root.rglob('*') if p.is_file()) / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent)
