"""All evidence of a dataset, as the checks read it, and the words they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from autoseg.data.checks.evidence import ChannelEvidence, Evidence, ImageEvidence, LabelEvidence
from autoseg.data.checks.finding import Finding
from autoseg.data.dataset import Dataset

ENOUGH = 4  # cases, to say what is usual


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """A dataset with what was seen of each of its cases; `groups` is what the user says belongs together."""

    dataset: Dataset
    training: tuple[Evidence, ...]
    test: tuple[Evidence, ...] = ()
    groups: Mapping[str, str] | None = None

    @property
    def images(self) -> tuple[tuple[str, ImageEvidence], ...]:
        """Every training image that could be read."""
        return tuple((e.name, e.image) for e in self.training if e.image)

    @property
    def labels(self) -> tuple[tuple[str, LabelEvidence], ...]:
        """Every label map that could be read."""
        return tuple((e.name, e.label) for e in self.training if e.label)

    def channel(self, number: int) -> dict[str, ChannelEvidence]:
        """One channel of every training image that could be read and is not constant."""
        return {
            name: image.channels[number]
            for name, image in self.images
            if number < len(image.channels) and not image.channels[number].constant
        }


Check = Callable[[Survey], Iterable[Finding]]


def cases_of(names: Sequence[str], of: int | None = None) -> str:
    """How many, and which: ``2 of 20 cases (a, b)``; a single one by its name.

    >>> cases_of(["a"]), cases_of(["a", "b", "c", "d", "e"], 20)
    ("case 'a'", '5 of 20 cases (a, b, c and 2 more)')
    """
    if len(names) == 1:
        return f"case {names[0]!r}"
    if len(names) == of:
        return f"all {of} cases"
    total = f" of {of}" if of else ""
    return f"{len(names)}{total} cases ({few(names)})"


def few(words: Sequence[object], most: int = 3) -> str:
    """The first of some words, and how many there are besides."""
    shown = ", ".join(map(str, words[:most]))
    return f"{shown} and {len(words) - most} more" if len(words) > most else shown


def factor(value: float) -> str:
    """How many times: three digits, without an exponent where it is large.

    >>> factor(1000.4), factor(11.38)
    ('1,000', '11.4')
    """
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def grouped(pairs: Iterable[tuple[str, str]]) -> Iterator[tuple[str, list[str]]]:
    """Names by what they share, in the order in which it was first seen."""
    found: dict[str, list[str]] = {}
    for key, name in pairs:
        found.setdefault(key, []).append(name)
    yield from found.items()
