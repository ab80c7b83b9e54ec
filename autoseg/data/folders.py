"""Folders without a ``dataset.json`` whose names say enough: which are the images, and which label maps are theirs."""

from __future__ import annotations

import glob
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from autoseg.core.errors import DatasetError
from autoseg.data.dataset import Dataset
from autoseg.data.formats import SUFFIXES, stem_of, suffix_of
from autoseg.data.pairs import dataset_from_files, matched

IMAGES = ("images", "image", "imgs", "img", "imagestr", "scans", "raw", "volumes", "jpegimages", "x")
LABELS = (
    *("labels", "label", "masks", "mask", "labelstr", "segmentations", "segmentation", "segs", "seg", "gt"),
    *("groundtruth", "ground_truth", "annotations", "segmentationclass", "y"),
)
TEST = ("imagests", "images_test", "test_images", "test")
MASK = re.compile(r"(.*?)[-_. ]?(?:mask|dseg|roi|seg|segmentation|label|labels|gt)", re.IGNORECASE)


def dataset_from_folders(folder: Path, *, test: Path | None = None) -> Dataset | None:
    """A folder of images beside one of label maps, perhaps below ``train``; None where there are no two such."""
    inside = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    images = next((inside[n] for n in IMAGES if n in inside), None)
    labels = next((inside[n] for n in LABELS if n in inside), None)
    if images is None or labels is None:
        train = inside.get("train") or inside.get("training")
        found = dataset_from_folders(train, test=_tested(inside)) if train else None
        return found and replace(found, name=folder.name, folder=folder)
    test = test or _tested(inside)
    found = dataset_from_files(
        f"{glob.escape(str(images))}/**/*",
        f"{glob.escape(str(labels))}/**/*",
        name=folder.name,
        test=f"{glob.escape(str(test))}/*" if test else (),
    )
    return replace(found, folder=folder)


def _tested(inside: Mapping[str, Path]) -> Path | None:
    test = next((inside[n] for n in TEST if n in inside), None)
    return test / "images" if test and (test / "images").is_dir() else test


def dataset_from_bids(folder: Path) -> Dataset | None:
    """BIDS: ``sub-*/**/anat`` with masks below ``derivatives``; None where there is nothing of the kind."""
    if not any(folder.glob("sub-*")) or not (folder / "derivatives").is_dir():
        return None
    masks = [p for p in _files(folder / "derivatives", "**/sub-*") if re.search(r"_(mask|dseg|roi|seg)$", stem_of(p))]
    kinds = {re.sub(r"(sub|ses|run)-[^_]+_", "", stem_of(path)) for path in masks}
    if len(kinds) != 1:
        what = f"several kinds of masks ({', '.join(sorted(kinds)[:4])})" if kinds else "no masks (_mask or _dseg)"
        raise DatasetError(
            f"{folder / 'derivatives'} holds {what}. Choose one: dataset_from_files(images, labels) with two patterns."
        )
    images = {}
    for mask in masks:
        entities = dict(re.findall(r"(sub|ses|run)-([^_]+)", stem_of(mask)))
        pattern = "".join(f"{key}-{entities[key]}_*" for key in ("sub", "ses", "run") if key in entities)
        near = _files(folder, f"sub-{entities['sub']}/**/{pattern}")
        if not near:
            raise DatasetError(f"the mask {mask.name} has no image below {folder / ('sub-' + entities['sub'])}.")
        images[mask] = _one_a_contrast(mask, near)
    names = ["_".join(re.findall(r"(?:sub|ses|run)-[^_]+", stem_of(mask))) for mask in masks]
    return _with_common_channels(folder, images, names)


def _one_a_contrast(mask: Path, near: Sequence[Path]) -> dict[str, Path]:
    """A mask's image of each contrast: the only one, or the one with no other entities (acq, run, ...) than the mask.

    Raises `DatasetError` where that leaves several.
    """
    every: dict[str, list[Path]] = {}
    for path in near:
        every.setdefault(stem_of(path).rpartition("_")[2], []).append(path)
    for contrast, paths in every.items():
        shared = {path: len(_entities(path)) for path in paths if _entities(path) <= _entities(mask)}
        best = [path for path in shared if shared[path] == max(shared.values())]
        if len(paths) > 1 and len(best) != 1:
            two = " and ".join(str(path) for path in (best or paths)[:2])
            raise DatasetError(
                f"the mask {mask.name} may belong to {len(best or paths)} images of {contrast}: {two}. Give the mask "
                "the entities of its image (acq, run, ...), or two lists: dataset_from_files(images, labels)."
            )
        every[contrast] = paths if len(paths) == 1 else best
    return {contrast: paths[0] for contrast, paths in every.items()}


def _entities(path: Path) -> set[str]:
    """BIDS's pairs of a key and a value: ``sub-01`` and ``run-2`` of ``sub-01_run-2_T1w``."""
    return set(stem_of(path).split("_")[:-1])


def dataset_from_mixed(folder: Path) -> Dataset | None:
    """Label maps, called ``..._seg`` or ``..._mask``, among their images; None where there are none.

    Where each folder holds one, all else in it are the channels of that case, and folders with the same channels and no
    label map are test cases; else names tell what belongs together.
    """
    found = [path for pattern in ("*", "*/*") for path in _files(folder, pattern)]
    masks = [path for path in found if MASK.fullmatch(stem_of(path))]
    if not masks:
        return None
    beside = {mask: [p for p in found if p.parent == mask.parent and p != mask] for mask in masks}
    if folder in (mask.parent for mask in masks) or any(set(masks) & set(paths) for paths in beside.values()):
        pairs = matched([(path,) for path in found if path not in masks], masks)
        files = dataset_from_files([i for i, _ in pairs.values()], [m for _, m in pairs.values()], name=folder.name)
        return replace(files, folder=folder)
    images = {mask: {_contrast(path, mask): path for path in paths} for mask, paths in beside.items()}
    cases = [mask.parent for mask in masks]
    unlabelled = [path for path in found if path.parent not in (*cases, folder)]
    return _with_common_channels(folder, images, [case.name for case in cases], unlabelled)


def _contrast(path: Path, mask: Path) -> str:
    """What an image's name has that its mask's has not: ``t1`` of ``case_7_t1`` beside ``case_7_seg``."""
    named = MASK.fullmatch(stem_of(mask))
    common = named[1] if named else ""
    return stem_of(path).removeprefix(common).strip("-_. ") or "image"


def _files(folder: Path, pattern: str) -> list[Path]:
    """Images and label maps, hidden files left out."""
    found = (p for p in folder.glob(pattern) if suffix_of(p) in SUFFIXES and not p.name.startswith("."))
    return sorted(path for path in found if path.is_file())


def _with_common_channels(
    folder: Path, images: Mapping[Path, Mapping[str, Path]], names: Sequence[str], unlabelled: Sequence[Path] = ()
) -> Dataset:
    """Cases from each mask's images by their contrast: those contrasts that all cases have.

    Where a folder of `unlabelled` images has one of each contrast, it is a test case.
    """
    first, *others = images.values()
    common = [contrast for contrast in first if all(contrast in other for other in others)]
    if not common:
        every = sorted({contrast for near in images.values() for contrast in near})
        raise DatasetError(f"the cases of {folder} share no contrast: {', '.join(every)}.")
    for contrast in sorted({contrast for near in images.values() for contrast in near} - set(common)):
        lacking = [name for name, near in zip(names, images.values(), strict=True) if contrast not in near]
        warnings.warn(
            f"{contrast} is no channel of this dataset: {len(lacking)} of {len(names)} cases have no such image, or "
            f"only a link to a file that is not there: {', '.join(lacking[:4])}.",
            stacklevel=4,
        )
    chosen = [[near[contrast] for contrast in common] for near in images.values()]
    tests = _complete(unlabelled, common)
    channels = () if common == ["image"] else common
    found = dataset_from_files(chosen, list(images), name=folder.name, channels=channels, test=list(tests.values()))
    training, test = (
        tuple(replace(case, name=name) for case, name in zip(cases, called, strict=True))
        for cases, called in ((found.training, names), (found.test, tests))
    )
    return replace(found, folder=folder, training=training, test=test)


def _complete(images: Sequence[Path], contrasts: Sequence[str]) -> dict[str, list[Path]]:
    """Of each folder, by its name, the image of each contrast, where it has one of each and nothing else."""
    found: dict[str, list[Path]] = {}
    for parent in dict.fromkeys(path.parent for path in images):
        within = [path for path in images if path.parent == parent]
        named = [[p for p in within if contrast == "image" or stem_of(p).endswith(contrast)] for contrast in contrasts]
        if len(within) == len(contrasts) and all(len(paths) == 1 for paths in named):
            found[parent.name] = [paths[0] for paths in named]
    return found
