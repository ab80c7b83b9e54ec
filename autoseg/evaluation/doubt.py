"""How unsure a prediction is: where folds or mirror images disagree, as a map and as one number a case."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import torch
from scipy import ndimage
from torch import nn

from autoseg.core.errors import PredictionError
from autoseg.core.shown import Shown
from autoseg.core.types import Axes, ImageArray, LabelArray, Mask
from autoseg.data.checks import load_image
from autoseg.data.dataset import Case
from autoseg.data.images import LabelMap
from autoseg.data.labels import Labels
from autoseg.prediction.inference import cases_of
from autoseg.prediction.predictor import common_compute, default_window, models_of, stages_of
from autoseg.prediction.sliding_window import Window, predict_logits
from autoseg.preprocessing.cases import PreprocessedCase, label_map_of, preprocess_case, restore_probabilities
from autoseg.training.compute import Compute
from autoseg.training.model import TrainedModel

if TYPE_CHECKING:
    import pandas as pd

Members = Literal["models", "mirrorings", "both"]
RIM = 3  # voxels around the foreground that count: borders are where networks are unsure
TINY = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Uncertainty(Shown):
    """How unsure the prediction of one case is.

    `map` is the entropy of the members' mean probabilities on the case's own grid (*space), float16: 0 is certain, 1 is
    a guess among all classes. It is taken, and not their mutual information, because it also knows where all members
    hesitate together, and one member alone has it. `disagreement` is one minus the mean Dice between two members; it
    is NaN for one member. `entropy` and `mutual_information` are means over what is predicted and a rim of 3 voxels.
    """

    case: Case
    label_map: LabelMap
    map: np.ndarray
    members: tuple[str, ...]
    disagreement: float
    entropy: float
    mutual_information: float

    @property
    def value(self) -> float:
        """The number to rank cases by: the disagreement, or the entropy where there is only one member."""
        return self.entropy if np.isnan(self.disagreement) else self.disagreement

    @property
    def meaning(self) -> str:
        """What the value is of."""
        if len(self.members) > 1:
            return f"disagreement of {len(self.members)} members: 1 − their mean pairwise Dice"
        return "entropy of one model, which may not be mirrored: it has nobody to disagree with"

    def __repr__(self) -> str:
        return f"Uncertainty({self.case.name!r}: {self.value:.4f}, {self.meaning})"


@dataclass(frozen=True, slots=True)
class Uncertainties(Shown, Sequence[Uncertainty]):
    """The uncertainty of several cases, in their order; ``found["name"]`` is one."""

    items: tuple[Uncertainty, ...]

    @overload
    def __getitem__(self, index: int | str) -> Uncertainty: ...
    @overload
    def __getitem__(self, index: slice) -> Uncertainties: ...
    def __getitem__(self, index: int | str | slice) -> Uncertainty | Uncertainties:
        if isinstance(index, slice):
            return Uncertainties(self.items[index])
        if isinstance(index, int):
            return self.items[index]
        for item in self.items:
            if item.case.name == index:
                return item
        raise PredictionError(f"no uncertainty of a case {index!r}; there are {len(self.items)} others.")

    def __len__(self) -> int:
        return len(self.items)

    @property
    def by_case(self) -> dict[str, float]:
        """The number of each case."""
        return {item.case.name: item.value for item in self.items}

    def most(self, count: int | None = 5) -> tuple[str, ...]:
        """Names of the cases to look at first."""
        return tuple(sorted(self.by_case, key=lambda name: -self.by_case[name])[:count])

    def table(self) -> pd.DataFrame:
        """One row a case, the most uncertain first."""
        import pandas as pd

        names = ("disagreement", "entropy", "mutual_information")
        rows = [{"case": i.case.name, **{n: getattr(i, n) for n in names}} for i in (self[n] for n in self.most(None))]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        most = ", ".join(f"{name} {self.by_case[name]:.3f}" for name in self.most(3))
        return f"Uncertainties({len(self)} cases, most uncertain: {most})"


def uncertainty(
    models: TrainedModel | Sequence[TrainedModel],
    what: Any,
    *,
    members: Members | None = None,
    spacing: Sequence[float] | None = None,
    device: str | torch.device | None = None,
    show_progress: bool = True,
) -> Uncertainties:
    """How much several models, or the mirror images of one, disagree about cases; no reference is needed.

    Args:
        models: of one configuration; usually its folds.
        what: whatever `predict` takes: a case, a path, a folder, an array or an image, or several of them.
        members: who is compared: ``"models"`` (the default where there are several), each with its mirror images
            averaged; ``"mirrorings"`` of the models' mean (the default for one model); or ``"both"``, each apart.
        spacing: of arrays, mm in the array's order.

    A model that may not be mirrored is alone: then there is only the entropy of its probabilities. How well the number
    ranks bad cases depends on the data, so look at `rank_correlation` of a result card before trusting it. One case is
    held at a time. Raises `PredictionError` where there is nothing to predict or models do not belong together.

    Sources: Roy et al. 2019, 'Bayesian QuickNAT', and Zenk et al. 2025, 'Comparative benchmarking of failure detection
    methods in medical image segmentation' (pairwise Dice); Mehrtash et al. 2020, 'Confidence calibration and predictive
    uncertainty estimation for deep medical image segmentation' (entropy of an ensemble).

    >>> autoseg.uncertainty(training.model, dataset.test[:1], show_progress=False)
    Uncertainties(1 cases, most uncertain: seahorse_027 ...)
    """
    from tqdm.auto import tqdm

    stages = stages_of(models_of(models))
    if len(stages) > 1:
        raise PredictionError("the stages of a cascade cannot be asked apart. Give the models of one configuration.")
    models = stages[0]
    if members not in (None, "models", "mirrorings", "both"):
        raise PredictionError(f"members={members!r} is not known. Give 'models', 'mirrorings' or 'both'.")
    panel = _Panel(models, default_window(models), common_compute(models, device), members)
    cases = cases_of(what, models[0].configuration, spacing)
    shown = tqdm(cases, desc="uncertainty", unit="case", disable=not show_progress, leave=False)
    return Uncertainties(tuple(panel(case) for case in shown))


Look = tuple[nn.Module, Axes, Window]  # a network, the axes of the image it sees mirrored, and how it is covered


class _Panel:
    """The members, each a few looks at the image whose logits are averaged."""

    def __init__(self, models: Sequence[TrainedModel], window: Window, compute: Compute, who: Members | None) -> None:
        self.configuration, self.compute = models[0].configuration, compute
        networks = [compute.place(model.network(), len(window.patch_size)) for model in models]
        named = [(f"fold {m.fold}", n) for m, n in zip(models, networks, strict=True)]
        bare, words = replace(window, mirror_axes=()), ("first", "second", "third")
        turned = [
            (f"mirrored along the {' and '.join(words[i] for i in axes)} axis" if axes else "as it is", axes)
            for axes in window.mirrorings()
        ]
        looks: dict[str, list[tuple[str, list[Look]]]] = {
            "models": [(name, [(n, (), window)]) for name, n in named],
            "mirrorings": [(t, [(n, a, bare) for n in networks]) for t, a in turned],
            "both": [(f"{name}, {t}", [(n, a, bare)]) for (name, n), (t, a) in product(named, turned)],
        }
        self.members = looks[who or ("models" if len(models) > 1 else "mirrorings")]

    def __call__(self, case: Case) -> Uncertainty:
        """Ask every member, one after the other, and compare."""
        labels = self.configuration.labels
        prepared = preprocess_case(case.name, load_image(case), None, self.configuration)
        grid, drawn = prepared.geometry.original, []
        mean: np.ndarray = np.zeros((), np.float32)
        apart: np.ndarray = np.zeros((), np.float32)
        for _, looks in self.members:
            probabilities = self._ask(looks, prepared)
            drawn.append(label_map_of(probabilities, grid, labels).array)
            mean = mean + probabilities / len(self.members)
            apart = apart + entropy_of(probabilities, labels) / len(self.members)
        together, label_map = entropy_of(mean, labels), label_map_of(mean, grid, labels)
        near = neighbourhood(label_map.array > 0)
        return Uncertainty(
            case=case,
            label_map=label_map,
            map=together.max(axis=0).astype(np.float16),
            members=tuple(name for name, _ in self.members),
            disagreement=1 - pairwise_dice(drawn, labels),
            entropy=float(together.max(axis=0)[near].mean()),
            mutual_information=float((together - apart).max(axis=0)[near].mean()),
        )

    def _ask(self, looks: list[Look], prepared: PreprocessedCase) -> ImageArray:
        """One member's probabilities on the case's own grid."""
        total = torch.zeros(())
        for network, axes, window in looks:
            flipped = tuple(a + 4 - len(window.patch_size) for a in axes)
            image = np.ascontiguousarray(np.flip(prepared.array, flipped))
            total = total + predict_logits(network, image, window, self.compute).flip(flipped)
        settings = self.configuration.resampling
        return restore_probabilities(total / len(looks), prepared.geometry, prepared.labels, settings=settings)


def entropy_of(probabilities: ImageArray, labels: Labels) -> ImageArray:
    """The entropy of probabilities (output, *space), from 0 to 1: (1, *space) of classes, (region, *space) of regions.

    >>> entropy_of(np.full((2, 1), 0.5), Labels({"background": 0, "cell": 1})).tolist()
    [[1.0]]
    """
    if labels.has_regions:
        return np.asarray((_plogp(probabilities) + _plogp(1 - probabilities)) / np.log(2))
    return np.asarray(_plogp(probabilities).sum(axis=0, keepdims=True) / np.log(len(probabilities)))


def _plogp(p: np.ndarray) -> np.ndarray:
    """-p log p; scipy's entr would be -inf where rounding has taken a mean of probabilities beyond 1."""
    return np.asarray(-p * np.log(np.maximum(p, TINY)))


def neighbourhood(foreground: Mask, rim: int = RIM) -> Mask:
    """A foreground and the voxels around it; everything where there is no foreground."""
    if not foreground.any():
        return np.ones_like(foreground)
    return np.asarray(ndimage.maximum_filter(foreground, size=2 * rim + 1, mode="constant"))


def pairwise_dice(drawn: Sequence[LabelArray], labels: Labels) -> float:
    """The mean Dice of all pairs of label maps and all labels that one of a pair has; NaN for a single map.

    >>> pairwise_dice([np.array([0, 1, 1]), np.array([0, 1, 0])], Labels({"background": 0, "cell": 1}))
    0.666666...
    """
    if len(drawn) < 2:
        return float("nan")
    somewhere = np.any([d > 0 for d in drawn], axis=0)
    stack = np.stack([d[somewhere] for d in drawn])
    first, second = np.triu_indices(len(drawn), 1)
    found: list[float] = []
    for values in labels.regions.values():
        masks = np.isin(stack, values).astype(np.float32)
        shared, sizes = (masks @ masks.T)[first, second], masks.sum(axis=1)
        both = sizes[first] + sizes[second]
        found += (2 * shared[both > 0] / both[both > 0]).astype(float).tolist()
    return float(np.mean(found)) if found else 1.0  # all agree that there is nothing
