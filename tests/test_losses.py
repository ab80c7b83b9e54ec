"""The losses give nnU-Net's numbers. The expected values were computed by nnU-Net 2.8.1 on the same tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autoseg.data.labels import Labels
from autoseg.training.losses import (
    DiceAndBinaryCrossEntropy,
    DiceAndCrossEntropy,
    deep_supervision_loss,
    default_loss,
    supervision_weights,
)


@pytest.fixture
def tensors() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Logits of three outputs, a label map of 0 to 2, and the same with a third of the voxels ignored (3)."""
    random = np.random.RandomState(7)
    logits = torch.from_numpy(random.normal(size=(2, 3, 6, 7, 5)).astype(np.float32))
    labels = random.randint(0, 3, (2, 6, 7, 5))
    ignored = np.where(random.uniform(size=labels.shape) < 0.3, 3, labels)
    return logits, torch.from_numpy(labels), torch.from_numpy(ignored)


@pytest.mark.parametrize(
    ("batch_dice", "plain", "ignoring"), [(False, 1.1252208, 1.1612635), (True, 1.1245930, 1.1611199)]
)
def test_label_loss_equals_nnunet(tensors, batch_dice, plain, ignoring):
    logits, labels, ignored = tensors
    assert DiceAndCrossEntropy(values=(0, 1, 2), batch_dice=batch_dice)(logits, labels).item() == pytest.approx(
        plain, abs=1e-6
    )
    loss = DiceAndCrossEntropy(values=(0, 1, 2), ignore=3, batch_dice=batch_dice)
    assert loss(logits, ignored).item() == pytest.approx(ignoring, abs=1e-6)


@pytest.mark.parametrize(
    ("batch_dice", "plain", "ignoring"), [(False, 0.3185631, 1.1219440), (True, 0.3176343, 1.1216211)]
)
def test_region_loss_equals_nnunet(tensors, batch_dice, plain, ignoring):
    logits, labels, ignored = tensors
    regions = ((1, 2), (2,))
    assert DiceAndBinaryCrossEntropy(regions=regions, batch_dice=batch_dice)(
        logits[:, :2], labels
    ).item() == pytest.approx(plain, abs=1e-6)
    loss = DiceAndBinaryCrossEntropy(regions=regions, ignore=3, batch_dice=batch_dice)
    assert loss(logits[:, :2], ignored).item() == pytest.approx(ignoring, abs=1e-6)


def test_label_values_need_not_be_consecutive(tensors):
    logits, labels, _ = tensors
    spread = torch.tensor([0, 5, 9])[labels]
    assert DiceAndCrossEntropy(values=(0, 5, 9))(logits, spread) == DiceAndCrossEntropy(values=(0, 1, 2))(
        logits, labels
    )


def test_voxels_with_the_ignore_label_do_not_matter(tensors):
    logits, _, ignored = tensors
    loss = DiceAndCrossEntropy(values=(0, 1, 2), ignore=3)
    changed = torch.where((ignored == 3)[:, None], torch.full_like(logits, 50.0), logits)
    assert loss(changed, ignored).item() == pytest.approx(loss(logits, ignored).item(), abs=1e-5)


def test_a_batch_without_any_annotated_voxel_has_a_finite_loss(tensors):
    logits, labels, _ = tensors
    assert torch.isfinite(DiceAndCrossEntropy(values=(0, 1, 2), ignore=3)(logits, torch.full_like(labels, 3)))


def test_regions_in_the_labels_choose_the_region_loss():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    assert default_loss(labels, batch_dice=True) == DiceAndBinaryCrossEntropy(regions=((1, 2), (2,)), batch_dice=True)


@given(st.integers(1, 9))
def test_supervision_weights_sum_to_one_and_fall(outputs):
    weights = supervision_weights(outputs)
    assert len(weights) == outputs
    assert sum(weights) == pytest.approx(1)
    assert list(weights) == sorted(weights, reverse=True)


def test_a_single_output_keeps_its_loss_where_nnunet_divides_zero_by_zero(tensors):
    logits, labels, _ = tensors
    loss = DiceAndCrossEntropy(values=(0, 1, 2))
    assert deep_supervision_loss(loss, [logits], labels).item() == pytest.approx(loss(logits, labels).item())


def test_lower_resolutions_see_the_nearest_label():
    seen = []

    def spy(logits, target):
        seen.append(target)
        return logits.sum() * 0

    target = torch.arange(16).reshape(1, 4, 4)
    outputs = [torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 1, 1)]
    deep_supervision_loss(spy, outputs, target)
    assert [tuple(t.shape) for t in seen] == [(1, 4, 4), (1, 2, 2)]  # the coarsest has weight 0
    assert seen[1].tolist() == [[[5, 7], [13, 15]]]


def at_three_resolutions(space):
    """Logits of three outputs at each of three resolutions, a label map, and the same with a third ignored (3)."""
    random = np.random.RandomState(11)
    logits = [
        torch.from_numpy(random.normal(size=(2, 3, *(s >> i for s in space))).astype(np.float32)) for i in range(3)
    ]
    labels = random.randint(0, 3, (2, *space))
    ignored = np.where(random.uniform(size=labels.shape) < 0.3, 3, labels)
    return logits, torch.from_numpy(labels), torch.from_numpy(ignored)


@pytest.mark.parametrize(
    ("space", "kind", "batch_dice", "expected"),
    [
        ((8, 12), "labels", False, 1.0585077),
        ((8, 12), "labels", True, 1.0580199),
        ((8, 12), "ignore", False, 0.9950261),
        ((8, 12), "ignore", True, 0.9947750),
        ((8, 12), "regions", False, 0.2694542),
        ((8, 12), "regions", True, 0.2673355),
        ((8, 12), "regions ignore", False, 1.0675513),
        ((8, 12), "regions ignore", True, 1.0649693),
        ((8, 12, 4), "labels", False, 1.1212615),
        ((8, 12, 4), "labels", True, 1.1214190),
        ((8, 12, 4), "ignore", False, 1.0991323),
        ((8, 12, 4), "ignore", True, 1.1006565),
        ((8, 12, 4), "regions", False, 0.3295240),
        ((8, 12, 4), "regions", True, 0.3294439),
        ((8, 12, 4), "regions ignore", False, 1.1548238),
        ((8, 12, 4), "regions ignore", True, 1.1545118),
    ],
)
def test_loss_with_deep_supervision_equals_nnunet_in_2d_and_3d(space, kind, batch_dice, expected):
    """nnU-Net's values come from its own downsampling of the label maps, too."""
    logits, labels, ignored = at_three_resolutions(space)
    ignore = 3 if "ignore" in kind else None
    names = {"background": 0, "a": 1, "b": 2}
    if "regions" in kind:
        names, logits = {"background": 0, "whole": (1, 2), "core": 2}, [output[:, :2] for output in logits]
    meaning = Labels(names, region_order=(1, 2) if "regions" in kind else (), ignore=ignore)
    loss = default_loss(meaning, batch_dice=batch_dice)
    found = deep_supervision_loss(loss, logits, ignored if ignore else labels).item()
    assert found == pytest.approx(expected, abs=1e-6)
