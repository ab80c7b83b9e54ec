"""Datasets that no ``dataset.json`` describes: which files belong together, and what their values mean."""

from __future__ import annotations

import glob
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from autoseg.core.errors import DatasetError, ImageError
from autoseg.core.types import PathLike
from autoseg.data.dataset import Case, Dataset
from autoseg.data.fixes import number_labels
from autoseg.data.formats import LOSSY, PHOTOGRAPHS, SUFFIXES, read_voxels, stem_of, suffix_of
from autoseg.data.images import default_channels, without_copies
from autoseg.data.label_values import FEW, FLAT, count_colours, count_values, flatness, smeared_from
from autoseg.data.labels import FileValue, Labels, Values, labels_from_json

Files = PathLike | Sequence[PathLike | Sequence[PathLike]]  # pattern or folder, or a path (or one a channel) a case
SAMPLE = 16  # photographs that are looked at to know whether they are in colour
MOST = 256  # values beyond which a label map is taken for an image
PARTS = r"(image|img|scan|volume|label|labels|mask|masks|seg|segmentation|gt|manual\d*)"
FIRST = "_0000"  # channel of a case
CHANNEL = re.compile(r"(.+)_(\d{4})")


def dataset_from_files(
    images: Files,
    labels: Files,
    *,
    name: str = "dataset",
    channels: Sequence[str] = (),
    label_names: Mapping[str, int] | None = None,
    test: Files | None = (),
) -> Dataset:
    """A dataset of images and label maps wherever they lie.

    Args:
        images: a folder, a glob pattern, or a list with a path for each case, or with a list of paths, one a channel.
        labels: likewise, one a case. Folders and patterns are matched by name; lists are taken in their order.
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
    if isinstance(channels, str) or not all(isinstance(channel, str) for channel in channels):
        raise DatasetError(f"channels={channels!r} is no list of names. Write channels=['CT'], for example.")
    pairs = _pairs(images, labels)
    named = tuple(channels) or _channels_of([paths for paths, _ in pairs.values()])
    meaning = declared(label_names) or labels_from_values(_values_in(label) for _, label in pairs.values())
    training = tuple(
        Case(name=case, image_paths=paths, label_path=label, channels=named, labels=meaning)
        for case, (paths, label) in pairs.items()
    )
    test = () if test is None else test
    given = _listed(test)
    given = _together(given, len(training[0].image_paths)) if isinstance(test, str | Path) else given
    rest = {stem if (stem := stem_of(paths[0])) not in pairs else f"test_{stem}": paths for paths in given}
    tests = tuple(Case(name=n, image_paths=p, label_path=None, channels=named, labels=meaning) for n, p in rest.items())
    return number_labels(Dataset(name=name, folder=None, channels=named, labels=meaning, training=training, test=tests))


def _listed(files: Files) -> list[tuple[Path, ...]]:
    """The paths of each entry; of a folder or a pattern each file is one, and each folder with a DICOM series."""
    if not isinstance(files, str | Path):
        if not isinstance(files, Iterable):
            raise DatasetError(f"{files!r} is no folder, pattern or list of paths.")
        entries = [(f,) if isinstance(f, str | Path) or not isinstance(f, Iterable) else tuple(f) for f in files]
        wrong = [entry for entry in entries if not entry or not all(isinstance(p, str | Path) for p in entry)]
        if wrong:
            raise DatasetError(f"{wrong[0]} is no path, nor paths with one a channel.")
        return [tuple(_existing(Path(p)) for p in entry) for entry in entries]
    whole = Path(files).is_dir() and not _holds_series(Path(files))
    pattern = f"{glob.escape(str(files))}/*" if whole else str(files)
    found = [Path(p) for p in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    series = [path for path in found if path.is_dir() and _holds_series(path)]
    pictures = [p for p in found if not p.is_dir() and suffix_of(p) in SUFFIXES and p.parent not in series]
    return [(_existing(path),) for path in (*series, *pictures)]


def _joined(images: Iterable[tuple[Path, ...]]) -> dict[Path, tuple[Path, ...]]:
    """Files by the case that they are a channel of, as their number says: ``a_0000`` and ``a_0001`` are of ``a``."""
    cases: dict[Path, tuple[Path, ...]] = {}
    for paths in images:
        place = paths[0].with_name(_without_channel(stem_of(paths[0])))
        cases[place] = (*cases.get(place, ()), *paths)
    return cases


def _together(images: Sequence[tuple[Path, ...]], channels: int) -> list[tuple[Path, ...]]:
    """Each case's files, where so many of one name are its channels; else every file is a case."""
    joined = _joined(images).values()
    return [case for paths in joined for case in ([paths] if len(paths) == channels else [(path,) for path in paths])]


def images_in(folder: Path, channels: int) -> list[tuple[Path, ...]]:
    """The images of a folder, each with a path a channel; the DICOM series in it or in its folders where there is none.

    Raises `DatasetError` where there is nothing, or a channel is missing.
    """
    found = [paths for paths in _listed(folder) if paths[0].is_file() and suffix_of(paths[0]) != ".dcm"]
    _require_channels(found, channels)
    found = _together(found, channels)
    if not found:
        places = [folder, *sorted(p for p in folder.iterdir() if p.is_dir())]
        found = [(p,) for p in places if _holds_series(p)]
    if not found:
        raise DatasetError(f"{folder} holds no images. Readable: {', '.join(s[1:] for s in SUFFIXES)}, DICOM series.")
    return found


def _require_channels(images: Sequence[tuple[Path, ...]], channels: int) -> None:
    """Raise `DatasetError` where some of a case's numbered files are there and others are not."""
    for place, paths in _joined(images).items():
        numbers = {int(n[2]) for path in paths if (n := CHANNEL.fullmatch(stem_of(path)))}
        missing = sorted(set(range(channels)) - numbers)
        if missing and numbers and numbers < set(range(channels)) and _holds_one_channel(paths[0]):
            raise DatasetError(
                f"case {place.name!r}: channel {missing[0]:04d} is missing. {place}_{missing[0]:04d}"
                f"{suffix_of(paths[0])} does not exist; there are {', '.join(path.name for path in paths)}."
            )


def _holds_one_channel(path: Path) -> bool:
    """Whether it can be but one channel of an image; photographs are frames that are numbered, not channels."""
    try:
        return suffix_of(path) not in PHOTOGRAPHS and len(read_voxels(path)[0]) == 1
    except ImageError:  # said when it is predicted
        return False


def _holds_series(folder: Path) -> bool:
    return any(_is_slice(path) for path in folder.iterdir() if path.is_file())


def _is_slice(path: Path) -> bool:
    """Whether this is DICOM, whose files are often called by a number and without a suffix."""
    if suffix_of(path) in SUFFIXES:
        return suffix_of(path) == ".dcm"
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def names_of(images: Sequence[tuple[Path, ...]]) -> list[str]:
    """The names of cases in a folder: without the number of the first channel, unless files are told apart by it.

    >>> names_of([(Path("a_0000.png"), Path("a_0001.png"))]), names_of([(Path("f_0000.png"),), (Path("f_0001.png"),)])
    (['a'], ['f_0000', 'f_0001'])
    """
    stems = [stem_of(paths[0]) for paths in images]
    alike = Counter(map(_without_channel, stems))
    return [stem.removesuffix(FIRST) if alike[_without_channel(stem)] == 1 else stem for stem in stems]


def _existing(path: Path) -> Path:
    if not path.exists():
        link = f": it is a link to {path.readlink()}" if path.is_symlink() else ""
        raise DatasetError(f"{path} does not exist{link}.")
    return path


def _pairs(images: Files, labels: Files) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """The files of each case, by its name."""
    shown, drawn = _listed(images), [paths[0] for paths in _listed(labels)]
    for what, found, given in (("image", shown, images), ("label map", drawn, labels)):
        if not found:
            where = f"matches '{given}'" if isinstance(given, str | Path) else "was given"
            raise DatasetError(f"no {what} {where}. Readable: {', '.join(s[1:] for s in SUFFIXES)}.")
    if isinstance(images, str | Path) or isinstance(labels, str | Path):
        return matched([paths for paths in shown if paths[0] not in drawn], drawn)
    if len(shown) != len(drawn):
        raise DatasetError(f"{len(shown)} images and {len(drawn)} label maps: give one of each, in one order.")
    names = _unique([stem_of(paths[0]) for paths in shown], [paths[0] for paths in shown])
    return {name: (paths, label) for name, paths, label in zip(names, shown, drawn, strict=True)}


def matched(images: Sequence[tuple[Path, ...]], labels: Sequence[Path]) -> dict[str, tuple[tuple[Path, ...], Path]]:
    """Images and label maps of one name, once what says only what a file is is taken away, or of one folder.

    A number at the end of an image's name is that of a channel only where label maps do not have it too.
    """
    drawn = {place: path for place, (path,) in _apart([(path,) for path in labels]).items()}
    apart = _apart(images)
    for cases in (apart, _joined(images)):
        for short in (lambda place: place.name, lambda place: _bare(place.name), lambda place: place.parent.name):
            ours = {short(place): place for place in cases}
            theirs = {short(place): path for place, path in drawn.items()}
            if len(ours) == len(cases) and len(theirs) == len(labels) and set(ours) <= set(theirs):
                if alone := [theirs[key].name for key in theirs if key not in ours]:
                    more = f"{len(alone)} of {len(labels)} label maps have no image and are left out"
                    warnings.warn(f"{more}: {', '.join(alone[:4])}.", stacklevel=4)
                alike = len({place.name for place in cases}) < len(cases)
                return {key if alike else p.name: (cases[p], theirs[key]) for key, p in ours.items()}
    known = {_bare(place.name) for place in drawn}
    alone = [place.name for place in _joined(images) if _bare(place.name) not in known]
    if alone:
        raise DatasetError(
            f"case {alone[0]!r} has an image but no label map: none of {len(labels)} ({labels[0].name}, ...) goes by "
            "its name. Name them alike, or give two lists in one order: dataset_from_files([image, ...], [label, ...])."
        )
    raise DatasetError(
        f"the names of {len(images)} images ({images[0][0].name}, ...) and {len(labels)} label maps ({labels[0].name}, "
        "...) do not say which belong together. Give two lists in one order."
    )


def _apart(files: Iterable[tuple[Path, ...]]) -> dict[Path, tuple[Path, ...]]:
    """Files by their place without a suffix. Raises `DatasetError` where two have the same, as a.png and a.tif."""
    found: dict[Path, tuple[Path, ...]] = {}
    for paths in files:
        place = paths[0].with_name(stem_of(paths[0]))
        if place in found:
            raise DatasetError(
                f"{found[place][0]} and {paths[0]} differ in nothing but the suffix. Remove one, or give a pattern "
                f"that only one matches, such as *{suffix_of(paths[0])}: dataset_from_files(images, labels)."
            )
        found[place] = paths
    return found


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


def _channels_of(images: Sequence[tuple[Path, ...]]) -> tuple[str, ...]:
    """Names for the channels of the first image; of photographs of the first in colour, since some may be grey."""
    if len(images[0]) > 1:
        return default_channels(len(images[0]))
    looked = images[:: max(1, len(images) // SAMPLE)] if suffix_of(images[0][0]) in PHOTOGRAPHS else images[:1]
    count = 1
    for paths in looked:
        array, _ = read_voxels(paths[0])
        count = max(count, len(without_copies(array, 1) if len(array) in (3, 4) else array))
        if count > 1:
            break
    return default_channels(count)


def declared(label_names: Mapping[str, int] | None) -> Labels | None:
    """The labels that a user named, if any. Raises `DatasetError` where they were given no values."""
    if label_names and not isinstance(label_names, Mapping):
        example = {str(name): value for value, name in enumerate(label_names)}
        raise DatasetError(f"label_names must give each label its value: {example} rather than {label_names!r}.")
    return labels_from_json(label_names) if label_names else None


def labels_from_values(values: Iterable[Mapping[FileValue, int]]) -> Labels:
    """Labels for the values, or colours, of some label maps; 0 (or black, or the most frequent) is background.

    >>> labels_from_values([{0: 90, 255: 10}]).file_values
    ((255, 1),)
    """
    total: Counter[FileValue] = Counter()
    for found in values:
        total.update(found)
    if any(isinstance(v, tuple) for v in total):  # a grey among colours, as in an empty mask, is one too
        total = Counter({v if isinstance(v, tuple) else (int(v),) * 3: n for v, n in total.items()})
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
    if suffix_of(path) in LOSSY and (meant := smeared_from(stored[0])):
        raise DatasetError(
            f"{path} is a JPEG, which smears label values: near {', '.join(map(str, meant))} there are others. Say "
            "which are meant, dataset_from_files(images, labels, label_names={'background': 0, 'foreground': 255}) for "
            "example; check() then offers to read each voxel as the nearest."
        )
    return values_of(stored, str(path))


def values_of(stored: np.ndarray, name: str) -> Mapping[FileValue, int]:
    """The values, or colours, of one label map (channel, *space). Raises `DatasetError` where they are intensities."""
    stored = without_copies(stored, 1) if len(stored) in (3, 4) else stored
    if len(stored) not in (1, 3, 4) or (len(stored) > 1 and stored.dtype.kind not in "ui"):
        raise DatasetError(
            f"{name} has {len(stored)} channels of {stored.dtype}; a label map has one integer a voxel, or a colour. "
            "If each channel is the mask of one label, merge them, by argmax for example."
        )
    values: Mapping[FileValue, int]
    if len(stored) > 1:
        values = count_colours(stored)
    else:
        values = {(int(v) if float(v).is_integer() else v): n for v, n in count_values(stored[0]).items()}
    grey = len(stored) == 1 and len(values) > FEW and flatness(stored[0]) < FLAT
    if grey or len(values) > MOST or any(isinstance(v, float) for v in values):
        raise DatasetError(
            f"{name} holds {len(values):,} different values, so it is no label map. Are images and labels exchanged? "
            "If its values only have to be rounded, say what they mean: "
            "dataset_from_files(images, labels, label_names={'background': 0, ...})."
        )
    return values
