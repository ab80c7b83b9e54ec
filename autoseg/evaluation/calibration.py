"""Whether probabilities can be believed: the reliability diagram, its error, and the temperature that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from scipy import optimize, special

from autoseg.core.errors import EvaluationError
from autoseg.core.shown import Shown
from autoseg.core.types import ImageArray
from autoseg.data.dataset import Case
from autoseg.data.labels import Labels
from autoseg.evaluation.doubt import RIM, neighbourhood
from autoseg.prediction.inference import Prediction, predict
from autoseg.training.model import TrainedModel

if TYPE_CHECKING:
    import torch

BINS = 15  # as Guo et al. 2017
VOXELS = 20_000  # of one case at most: fifty cases then stay below 20 MB, and each weighs about the same
TINY = 1e-12
RANGE = (-3.0, 3.0)  # of the temperature's logarithm
Sample = tuple[np.ndarray, np.ndarray]  # log probabilities (voxel, class) and the true class (voxel,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Voxels in bins of their confidence: how many, how sure on average, and how often right."""

    voxels: tuple[int, ...]
    confidence: tuple[float, ...]  # NaN where a bin is empty
    accuracy: tuple[float, ...]

    @property
    def ece(self) -> float:
        """Expected calibration error: the mean gap between confidence and accuracy, each voxel counting the same."""
        shares = np.array(self.voxels) / max(sum(self.voxels), 1)
        gaps = np.abs(np.array(self.confidence) - np.array(self.accuracy))
        return float(np.nansum(shares * gaps))


def reliability(log_probabilities: np.ndarray, truth: np.ndarray, *, temperature: float = 1.0) -> Reliability:
    """Bin voxels by the probability of their most probable class; (voxel, class) and (voxel,).

    Source: Guo et al. 2017, 'On calibration of modern neural networks'.

    >>> found = reliability(np.log([[0.9, 0.1]] * 10), np.array([0] * 9 + [1]))
    >>> round(found.ece, 6)
    0.0
    """
    probabilities = special.softmax(log_probabilities / temperature, axis=1)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
    voxels, sure, correct = (
        np.bincount(bins, weights, minlength=BINS) for weights in (None, confidence, right.astype(float))
    )
    with np.errstate(invalid="ignore"):
        return Reliability(
            voxels=tuple(int(n) for n in voxels),
            confidence=tuple((sure / voxels).tolist()),
            accuracy=tuple((correct / voxels).tolist()),
        )


def fit_temperature(log_probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the lowest negative log likelihood; above 1 where the network is too sure of itself.

    Source: Guo et al. 2017; the likelihood has one minimum, so Brent's method finds it.
    """
    found = optimize.minimize_scalar(
        lambda log_t: negative_log_likelihood(log_probabilities, truth, float(np.exp(log_t))),
        bounds=RANGE,
        method="bounded",
    )
    return float(np.exp(found.x))


def truer_temperature(log_probabilities: np.ndarray, truth: np.ndarray) -> float:
    """The fitted temperature, or 1 where it would raise the calibration error: a few voxels far off can drive it."""
    fitted = fit_temperature(log_probabilities, truth)
    before, after = (reliability(log_probabilities, truth, temperature=t).ece for t in (1.0, fitted))
    return fitted if after < before else 1.0


def negative_log_likelihood(log_probabilities: np.ndarray, truth: np.ndarray, temperature: float = 1.0) -> float:
    """The mean over voxels, in nats."""
    scaled = special.log_softmax(log_probabilities / temperature, axis=1)
    return float(-scaled[np.arange(len(truth)), truth].mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration(Shown):
    """A temperature, and what it does to the reliability on cases that did not fit it.

    Only voxels within 3 voxels of the foreground, predicted or true, count: far from it a network is right and sure of
    it, which would hide everything else. Of a dataset with regions each region of a voxel counts on its own.
    """

    temperature: float
    before: Reliability
    after: Reliability
    likelihood_before: float  # negative logarithm, nats a voxel
    likelihood_after: float
    fitted_on: tuple[str, ...]
    judged_on: tuple[str, ...]

    @property
    def ece_before(self) -> float:
        """Expected calibration error of the probabilities as they are."""
        return self.before.ece

    @property
    def ece_after(self) -> float:
        """The same after division of the logits by the temperature."""
        return self.after.ece

    @property
    def conclusion(self) -> str:
        """What the numbers say."""
        if self.temperature == 1:
            return "no temperature makes the probabilities truer; they stay as they are"
        mended = "less far off" if self.ece_after < self.ece_before else "no better"
        how = "too sure of itself" if self.temperature > 1 else "not sure enough of itself"
        return f"the network is {how}; on other cases its probabilities are {mended} with the temperature"

    def __call__(self, prediction: Prediction) -> Prediction:
        """The prediction with calibrated probabilities; its label map stays.

        Raises `EvaluationError` where it holds none.
        """
        if prediction.probabilities is None:
            raise EvaluationError(
                f"the prediction of {prediction.case.name!r} has no probabilities. "
                "Use predict(..., probabilities=True)."
            )
        scaled = tempered(prediction.probabilities, prediction.label_map.labels, self.temperature)
        return replace(prediction, probabilities=scaled)

    def __repr__(self) -> str:
        return (
            f"Calibration(temperature {self.temperature:.3f}, fitted on {len(self.fitted_on)} cases)\n"
            f"  on {len(self.judged_on)} others: ECE {self.ece_before:.4f} before, {self.ece_after:.4f} after"
        )


def calibrate(
    models: TrainedModel | Sequence[TrainedModel],
    cases: Sequence[Case],
    *,
    judge_on: Sequence[Case] | None = None,
    seed: int = 0,
    device: str | torch.device | None = None,
    show_progress: bool = True,
) -> Calibration:
    """Fit a temperature, and judge it on cases that did not fit it; 1 where none makes the probabilities truer.

    Args:
        models: one, or several whose logits are averaged.
        cases: with label maps, which no model was trained on, such as ``dataset.fold(0).validation`` for fold 0.
        judge_on: other such cases; where none are given, half of `cases`, drawn by `seed`, fit and the others judge.
        seed: draws the halves, and at most 20,000 voxels a case.

    Raises `EvaluationError` for too few cases, `DatasetError` for a case without label map.
    Source: Guo et al. 2017, 'On calibration of modern neural networks'.

    >>> autoseg.calibrate(training.model, dataset.fold(0).validation, show_progress=False)
    Calibration(temperature ..., fitted on 3 cases)
      on 3 others: ECE ... before, ... after
    """
    from tqdm.auto import tqdm

    random = np.random.default_rng(seed)
    mixed = [cases[i] for i in random.permutation(len(cases))]
    fitting, judging = (mixed, list(judge_on)) if judge_on is not None else (mixed[::2], mixed[1::2])
    if not fitting or not judging:
        raise EvaluationError(
            f"{len(fitting)} case(s) to fit a temperature and {len(judging)} to judge it: give at least one of each."
        )
    if both := {case.name for case in fitting} & {case.name for case in judging}:
        raise EvaluationError(f"case {min(both)!r} would fit the temperature and judge it. Give different cases.")
    samples: list[Sample] = []
    for case in tqdm([*fitting, *judging], desc="calibrate", unit="case", disable=not show_progress, leave=False):
        (prediction,) = predict(models, case, probabilities=True, device=device, show_progress=False)
        samples.append(sample(prediction, random))
    fit, judge = (_together(part) for part in (samples[: len(fitting)], samples[len(fitting) :]))
    temperature = truer_temperature(*fit)
    return Calibration(
        temperature=temperature,
        before=reliability(*judge),
        after=reliability(*judge, temperature=temperature),
        likelihood_before=negative_log_likelihood(*judge),
        likelihood_after=negative_log_likelihood(*judge, temperature),
        fitted_on=tuple(case.name for case in fitting),
        judged_on=tuple(case.name for case in judging),
    )


def sample(prediction: Prediction, random: np.random.Generator) -> Sample:
    """Voxels in and around the foreground of prediction or reference that somebody annotated, drawn at random."""
    probabilities, labels = prediction.probabilities, prediction.label_map.labels
    truth = prediction.case.label().array
    if probabilities is None or truth.shape != prediction.label_map.array.shape:
        raise EvaluationError(
            f"case {prediction.case.name!r}: the prediction has no probabilities, or not on the grid of the label map."
        )
    counted = neighbourhood((prediction.label_map.array > 0) | np.isin(truth, labels.foreground), RIM)
    if labels.ignore is not None:
        counted &= truth != labels.ignore
    chosen = np.flatnonzero(counted)
    chosen = random.choice(chosen, VOXELS, replace=False) if len(chosen) > VOXELS else chosen
    values, true = probabilities.reshape(len(probabilities), -1)[:, chosen], truth.reshape(-1)[chosen]
    if not labels.has_regions:
        return np.log(np.maximum(values.T, TINY)), np.searchsorted(labels.values, true)
    inside = np.stack([np.isin(true, region) for region in labels.regions.values()])
    pairs = np.stack([1 - values.ravel(), values.ravel()], axis=1)
    return np.log(np.maximum(pairs, TINY)), inside.ravel().astype(int)


def tempered(probabilities: ImageArray, labels: Labels, temperature: float) -> ImageArray:
    """Probabilities (output, *space) whose logits are divided by a temperature; with 1 they stay as they are."""
    logarithms = np.log(np.maximum(probabilities, TINY))
    if not labels.has_regions:
        return np.asarray(special.softmax(logarithms / temperature, axis=0)).astype(np.float32)
    logits = logarithms - np.log(np.maximum(1 - probabilities, TINY))
    return np.asarray(special.expit(logits / temperature)).astype(np.float32)


def _together(samples: Sequence[Sample]) -> Sample:
    return np.concatenate([s[0] for s in samples]), np.concatenate([s[1] for s in samples])
