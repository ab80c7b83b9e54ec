"""The errors autoseg raises. Each says what is wrong, with the numbers; where; and what to do."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Iterable


class AutosegError(Exception):
    """The parent of every error that autoseg raises on purpose.

    >>> try:
    ...     autoseg.open_dataset("nowhere")
    ... except autoseg.AutosegError as error:
    ...     print(error)
    nowhere is not a folder. Give the folder that holds dataset.json and imagesTr.
    """


class DatasetError(AutosegError):
    """A dataset, or one of its cases, cannot be used as it is."""


class ImageError(AutosegError):
    """A file or array cannot be understood as an image or a label map."""


class PlanError(AutosegError):
    """No plan can be made from these facts, or a given value breaks a rule."""


class PreprocessingError(AutosegError):
    """A case could not be brought onto the plan's grid."""


class TrainingError(AutosegError):
    """Training cannot start or cannot go on."""


class ModelError(AutosegError):
    """A trained model cannot be read, or does not fit what it is asked to do."""


class PredictionError(AutosegError):
    """An image cannot be predicted."""


class EvaluationError(AutosegError):
    """Predictions and references cannot be compared."""


class StorageError(AutosegError):
    """A file cannot be written or read back."""


class DisplayError(AutosegError):
    """Something cannot be shown here."""


def warn(message: str) -> None:
    """A warning at the line of the user's own that led to it, however deep in the package it was found."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == __name__.partition(".")[0]:
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The sentence that helps after a misspelt name.

    >>> did_you_mean("patchsize", ["patch_size", "batch_size"])
    "Did you mean 'patch_size'?"
    >>> did_you_mean("zzz", ["spacing", "batch_size"])
    'Known: batch_size, spacing.'
    """
    known, name = sorted(known), str(name)
    close = [candidate for candidate in known if candidate.casefold() == name.casefold()]
    close = close or difflib.get_close_matches(name, known, n=1)
    if not close:
        close = [candidate for candidate in known if candidate.endswith(f"/{name}")][:1]
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(known)}."
