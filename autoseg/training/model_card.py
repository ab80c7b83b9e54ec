"""The model card: what whoever receives a model must know about it, kept in the same file as its weights."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field

import numpy as np
import torch

import autoseg
from autoseg.core.shown import Shown


def versions() -> tuple[str, ...]:
    """What is at work now, by name and number."""
    parts = {"autoseg": autoseg.__version__, "torch": torch.__version__, "numpy": np.__version__}
    return (*(f"{name} {version}" for name, version in parts.items()), f"Python {platform.python_version()}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCard(Shown):
    """Intended use, licence, origin and versions of a model. `data_key` changes with any voxel of the training data.

    >>> ModelCard(licence="CC-BY 4.0").licence
    'CC-BY 4.0'
    """

    intended_use: str = "Research and teaching. Not a medical device: no decision about a patient may rest on it."
    licence: str = "Not stated. The licence of the training data may hold for the model too; ask whoever trained it."
    limitations: str = "Not stated. Images unlike the training data are segmented too, and then badly."
    data: str = "not stated"
    data_key: str = "not stated"
    made_with: tuple[str, ...] = field(default_factory=versions)

    @property
    def facts(self) -> dict[str, str]:
        """Each entry by the name to show it under."""
        return {
            "intended use": self.intended_use,
            "limitations": self.limitations,
            "licence": self.licence,
            "training data": self.data,
            "data fingerprint": self.data_key,
            "made with": ", ".join(self.made_with),
        }

    def to_markdown(self, title: str) -> str:
        """The card as a README."""
        return f"# {title}\n" + "".join(f"\n**{name.capitalize()}**: {text}\n" for name, text in self.facts.items())

    def __repr__(self) -> str:
        return "ModelCard\n" + "\n".join(f"  {name}: {text}" for name, text in self.facts.items())
