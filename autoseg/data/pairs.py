"""Datasets that no ``dataset.json`` describes: which files belong together, and what their values mean."""

from __future__ import annotations

import glob
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from autoseg.core.errors import DatasetError
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case, Dataset
from autoseg.data.fixes import number_labels
from autoseg.data.formats import SUFFIXES, read_voxels, suffix_of
from autoseg.data.images import default_channels, without_copies
from autoseg.data.label_values import FEW, FLAT, count_values, flatness
from autoseg.data.labels import FileValue, Labels, Values

Files = str | Sequence[PathLike | Sequence[PathLike]]  # a glob pattern, or a path (or a path a channel) for each case
MOST = 256  # values beyond which a label map is taken for an image
IMAGES = ("images", "image", "imgs", "img", "imagestr", "scans", "raw", "volumes", "x")
LABELS = (
    *("labels", "label", "masks", "mask", "labelstr", "segmentations", "segmentation", "segs", "seg", "gt"),
    *("groundtruth", "ground_truth", "annotations", "y"),
)
TEST = ("imagesTs", "imagests", "images_test", "test_images", "test")
PARTS = r"(image|img|scan|volume|label|labels|mask|masks|seg|segmentation|gt|manual\d*)"
CHANNEL = re.compile(r"(.+)_(\d{4})")


def dataset_from_files(
    images: Files,
    labels: Files,
    *,
    name: str = "dataset",
    channels: Sequence[str] = (),
    label_names: Mapping[str, int] | None = None,
    test: Files = (),
) -> Dataset:
    """A dataset of images and label maps wherever they lie.

    Args:
        images: a glob pattern, or a list with a path for each case, or with a list of paths, one a channel.
        labels: a glob pattern or a list, one a case. Patterns are matched by name; lists are taken in their order.
        channels: their names; ``CT`` decides the normalization. From the first image where they are not given.
        label_names: every label with its value, such as ``{"background": 0, "liver": 255}``; predictions are written
            with these values. Without it all label maps are read once, and each value that occurs becomes a label.
        test: images without label maps.

    Raises `DatasetError` where images and label maps cannot be matched, or label values are intensities.

    >>> import autoseg
    >>> folder = autoseg.sample_dataset().folder
    >>> autoseg.dataset_from_files(f"{folder}/imagesTr/*.nii.gz", f"{folder}/labelsTr/*.nii.gz")
    Dataset('dataset': 26 training cases)
      channels: image
      Labels(0 background, 1 label 1, 2 label 2)
    """
    pairs = _pairs(images, labels)
    first = next(iter(pairs.values()))
    named = tuple(channels) or _channels_of(first[0])
    meaning = declared(label_names) or labels_of([label for _, label in pairs.values()])
    training = tuple(
        Case(name=case, image_paths=paths, label_path=label, channels=named, labels=meaning)
        for case, (paths, label) in pairs.items()
    )
    rest = {_stem(paths[0]): paths for paths in _listed(test)}
    tests = tuple(Case(name=n, image_paths=p, label_path=None, channels=named, labels=meaning) for n, p in rest.items())
    return number_labels(Dataset(name=name, folder=None, channels=named, labels=meaning, training=training, test=tests))


def _listed(files: Files) -> list[tuple[Path, ...]]:
    """Each case's paths; numbered channel files of a pattern stand together."""
    if not isinstance(files, str):
        entries = [(f,) if isinstance(f, str | Path) else tuple(f) for f in files]
        return [tuple(_existing(Path(p)) for p in entry) for entry in entries]
    found = sorted(Path(p) for p in glob.glob(files, recursive=True) if suffix_of(p) in SUFFIXES)  # noqa: PTH207
    cases: dict[str, list[Path]] = {}
    for path in found:
        numbered = CHANNEL.fullmatch(_stem(path))
        cases.setdefault(str(path.parent / (numbered[1] if numbered else _stem(path))), []).append(path)
    return [tuple(paths) for paths in cases.values()]


def images_in(folder: Path, channels: int) -> list[tuple[Path, ...]]:
    """The images of a folder, each with a path a channel; the DICOM series in it or in its folders where there is none.

    Raises `DatasetError` where there is nothing.
    """
    pattern = f"{glob.escape(str(folder))}/*"
    found = [paths for paths in _listed(pattern) if suffix_of(paths[0]) != ".dcm"]
    if channels == 1:
        found = [(path,) for paths in found for path in paths]
    if not found:
        places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
        found = [(p,) for p in places if any(f.is_file() and suffix_of(f) in ("", ".dcm") for f in p.iterdir())]
    if not found:
        raise DatasetError(f"{folder} holds no images. Readable: {', '.join(s[1:] for s in SUFFIXES)}, DICOM series.")
    return found


def _existing(path: Path) -> Path:
    if not path.exists():
        raise DatasetError(f"{path} does not exist.")
    return path


def _stem(path: Path) -> str:
    return path.name if path.is_dir() else path.name[: len(path.name) - len(suffix_of(path))]


def _pairs(images: Files, labels: Files) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """The files of each case, by its name."""
    shown, drawn = _listed(images), [paths[0] for paths in _listed(labels)]
    for what, found, given in (("image", shown, images), ("label map", drawn, labels)):
        if not found:
            where = f"matches {given!r}" if isinstance(given, str) else "was given"
            raise DatasetError(f"no {what} {where}. Readable: {', '.join(s[1:] for s in SUFFIXES)}.")
    if isinstance(images, str) or isinstance(labels, str):
        return _matched(shown, drawn)
    if len(shown) != len(drawn):
        raise DatasetError(f"{len(shown)} images and {len(drawn)} label maps: give one of each, in one order.")
    names = _unique([_stem(paths[0]) for paths in shown], [paths[0] for paths in shown])
    return {name: (paths, label) for name, paths, label in zip(names, shown, drawn, strict=True)}


def _matched(images: Sequence[tuple[Path, ...]], labels: Sequence[Path]) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Images and label maps of the same name, once what all names share is taken away."""
    for short in (lambda stem: stem, _bare):
        ours = {short(_without_channel(_stem(paths[0]))): paths for paths in images}
        theirs = {short(_stem(path)): path for path in labels}
        if len(ours) == len(images) and len(theirs) == len(labels) and set(ours) <= set(theirs):
            return {_without_channel(_stem(p[0])): (p, theirs[key]) for key, p in ours.items()}
    drawn = {_bare(_stem(path)) for path in labels}
    alone = [name for paths in images if _bare(name := _without_channel(_stem(paths[0]))) not in drawn]
    if alone:
        raise DatasetError(
            f"case {alone[0]!r} has an image but no label map: none of {len(labels)} ({labels[0].name}, ...) goes by "
            "its name. Name them alike, or give two lists in one order: dataset_from_files([image, ...], [label, ...])."
        )
    raise DatasetError(
        f"the names of {len(images)} images ({images[0][0].name}, ...) and {len(labels)} label maps ({labels[0].name}, "
        "...) do not say which belong together. Give two lists in one order."
    )


def _without_channel(stem: str) -> str:
    numbered = CHANNEL.fullmatch(stem)
    return numbered[1] if numbered else stem


def _bare(stem: str) -> str:
    """A name without the words that only say what a file is.

    >>> _bare("Case-07_image"), _bare("mask_case-07"), _bare("case-07")
    ('case-07', 'case-07', 'case-07')
    """
    return re.sub(rf"(^{PARTS}[-_. ]+)|([-_. ]+{PARTS}$)", "", stem.lower())


def _unique(stems: Sequence[str], paths: Sequence[Path]) -> list[str]:
    """Names of cases; where files are called alike in many folders, the folder is the name."""
    if len(set(stems)) == len(stems):
        return list(stems)
    names = [f"{path.parent.name}_{stem}" for path, stem in zip(paths, stems, strict=True)]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DatasetError(f"two images would be called {twice[0]!r}. Give files with names of their own.")
    return names


def _channels_of(paths: Sequence[Path]) -> tuple[str, ...]:
    if len(paths) > 1:
        return default_channels(len(paths))
    array, _ = read_voxels(paths[0])
    return default_channels(len(without_copies(array, 1) if len(array) in (3, 4) else array))


def declared(label_names: Mapping[str, int] | None) -> Labels | None:
    """The labels that a user named, if any."""
    return Labels({name: int(value) for name, value in label_names.items()}) if label_names else None


def labels_of(paths: Sequence[Path]) -> Labels:
    """A label for each value, or colour, that occurs in some label map.

    Raises `DatasetError` where there are so many that these are intensities, and names the file.
    """
    return labels_from_values(_values_in(path) for path in paths)


def labels_from_values(values: Iterable[Mapping[FileValue, int]]) -> Labels:
    """Labels for the values, or colours, of some label maps; 0 (or black, or the most frequent) is background.

    >>> labels_from_values([{0: 90, 255: 10}]).file_values
    ((255, 1),)
    """
    total: Counter[FileValue] = Counter()
    for found in values:
        total.update(found)
    colours = [v for v in total if isinstance(v, tuple)]
    ground: FileValue = 0
    if colours:
        ground = next((c for c in colours if not any(c)), max(colours, key=lambda c: total[c]))
        rest: list[FileValue] = sorted(c for c in colours if c != ground)
    else:
        rest = sorted((v for v in total if v != 0), key=float)  # type: ignore[arg-type]  # there are no colours
    names = ["foreground"] if len(rest) == 1 else [f"label {_word(v)}" for v in rest]
    meaning: dict[str, Values] = {"background": 0, **{name: i + 1 for i, name in enumerate(names)}}
    pairs = [(v, i + 1) for i, v in enumerate(rest) if v != i + 1]
    return Labels(meaning, file_values=tuple([(ground, 0)] if colours else []) + tuple(pairs))


def _word(value: FileValue) -> str:
    return "-".join(map(str, value)) if isinstance(value, tuple) else f"{value:g}"


def _values_in(path: Path) -> Mapping[FileValue, int]:
    stored, _ = read_voxels(path)
    return values_of(stored, str(path))


def values_of(stored: np.ndarray, name: str) -> Mapping[FileValue, int]:
    """The values, or colours, of one label map (channel, *space). Raises `DatasetError` where they are intensities."""
    stored = without_copies(stored, 1) if len(stored) in (3, 4) else stored
    if len(stored) > 1:
        packed = np.stack([channel.astype(np.int64) for channel in stored[:3]], axis=-1).reshape(-1, len(stored[:3]))
        found, counts = np.unique(packed, axis=0, return_counts=True)
        values: dict[FileValue, int] = {tuple(map(int, c)): int(n) for c, n in zip(found, counts, strict=True)}
    else:
        values = {(int(v) if float(v).is_integer() else v): n for v, n in count_values(stored[0]).items()}
    grey = len(stored) == 1 and len(values) > FEW and flatness(stored[0]) < FLAT
    if grey or len(values) > MOST or any(isinstance(v, float) for v in values):
        raise DatasetError(
            f"{name} holds {len(values):,} different values, so it is no label map. Are images and labels exchanged, "
            "or was it saved as JPEG? If its values only have to be rounded, say what they mean: "
            "label_names={'background': 0, ...}."
        )
    return values


def dataset_from_folders(folder: Path) -> Dataset | None:
    """A folder of images beside one of label maps; None where there are no two such."""
    inside = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    images = next((inside[n] for n in IMAGES if n in inside), None)
    labels = next((inside[n] for n in LABELS if n in inside), None)
    if images is None or labels is None:
        train = inside.get("train") or inside.get("training")
        return dataset_from_folders(train) if train else None
    test = next((inside[n] for n in TEST if n in inside), None)
    test = test / "images" if test and (test / "images").is_dir() else test
    found = dataset_from_files(
        f"{glob.escape(str(images))}/**/*",
        f"{glob.escape(str(labels))}/**/*",
        name=folder.name,
        test=f"{glob.escape(str(test))}/*" if test else (),
    )
    return replace(found, folder=folder)


def dataset_from_bids(folder: Path) -> Dataset | None:
    """BIDS: ``sub-*/**/anat`` with masks below ``derivatives``; None where there is nothing of the kind."""
    if not any(folder.glob("sub-*")) or not (folder / "derivatives").is_dir():
        return None
    masks = [p for p in sorted((folder / "derivatives").rglob("sub-*")) if _is_mask(p)]
    kinds = {re.sub(r"(sub|ses|run)-[^_]+_", "", _stem(path)) for path in masks}
    if len(kinds) != 1:
        what = f"several kinds of masks ({', '.join(sorted(kinds)[:4])})" if kinds else "no masks (_mask or _dseg)"
        raise DatasetError(
            f"{folder / 'derivatives'} holds {what}. Choose one: dataset_from_files(images, labels) with two patterns."
        )
    images, used = [], []
    for mask in masks:
        entities = dict(re.findall(r"(sub|ses|run)-([^_]+)", _stem(mask)))
        pattern = "".join(f"{key}-{entities[key]}_*" for key in ("sub", "ses", "run") if key in entities)
        near = sorted(p for p in folder.glob(f"sub-{entities['sub']}/**/{pattern}") if suffix_of(p) in SUFFIXES)
        if not near:
            raise DatasetError(f"the mask {mask.name} has no image below {folder / ('sub-' + entities['sub'])}.")
        images.append(near)
        used.append(_stem(mask).rpartition("_")[0])
    contrasts = [tuple(_stem(p).rpartition("_")[2] for p in paths) for paths in images]
    common = [c for c in contrasts[0] if all(c in others for others in contrasts)]
    chosen = [[next(p for p in paths if _stem(p).endswith(f"_{c}")) for c in common] for paths in images]
    if not common:
        raise DatasetError(f"the cases of {folder} share no contrast: {sorted({c for cs in contrasts for c in cs})}.")
    found = dataset_from_files(chosen, masks, name=folder.name, channels=common)
    named = tuple(replace(c, name=_entities(m)) for c, m in zip(found.training, masks, strict=True))
    return replace(found, folder=folder, training=named)


def _entities(mask: Path) -> str:
    return "_".join(re.findall(r"(?:sub|ses|run)-[^_]+", _stem(mask)))


def _is_mask(path: Path) -> bool:
    return path.is_file() and suffix_of(path) in SUFFIXES and bool(re.search(r"_(mask|dseg|roi|seg)$", _stem(path)))
