"""The closed form counts what networks write, and the search finds the first patch that fits."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from autoseg.core.errors import PlanError
from autoseg.networks.unet import build_unet
from autoseg.planning.budget import Budget
from autoseg.planning.configuration import NetworkSpec
from autoseg.planning.memory import MemoryModel, features_for, network_elements, shrinking_patches
from autoseg.planning.topology import topology_of

SIX_STAGES = ((1, 1, 1),) + ((2, 2, 2),) * 5
PRESETS = ["default", "resenc_m", "resenc_l", "resenc_xl"]


@pytest.mark.parametrize(("preset", "expected"), [("default", 454_893_568), ("resenc_m", 559_517_696)])
def test_the_counts_nnunet_computes_by_building_the_network(preset: str, expected: int) -> None:
    memory = MemoryModel(Budget(preset=preset), labels=4)  # type: ignore[arg-type]
    assert memory.elements((128, 128, 128), SIX_STAGES) == expected


@pytest.mark.parametrize("preset", ["default", "resenc_m"])
@pytest.mark.parametrize(
    ("patch", "spacing"), [((16, 24, 32), (1.0, 1.0, 1.0)), ((8, 32, 32), (4.0, 1.0, 1.0)), ((32, 48), (1.0, 1.0))]
)
def test_the_closed_form_counts_what_convolutions_write(
    preset: str, patch: tuple[int, ...], spacing: tuple[float, ...]
) -> None:
    memory = MemoryModel(Budget(preset=preset), labels=3)  # type: ignore[arg-type]
    topology = topology_of(spacing, patch)
    constants = memory.budget.constants
    spec = NetworkSpec(
        kind=constants.network,
        in_channels=2,
        classes=3,
        features=features_for(topology.stages, len(patch)),
        kernel_sizes=topology.kernel_sizes,
        strides=topology.strides,
        encoder_blocks=constants.encoder_blocks(topology.stages),
        decoder_blocks=constants.decoder_blocks(topology.stages),
    )
    written = []
    network = build_unet(spec)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            module.register_forward_hook(lambda _module, _inputs, output: written.append(output.numel()))
    with torch.no_grad():
        network(torch.zeros(1, 2, *patch))
    assert sum(written) == memory.elements_of(spec, patch) == memory.elements(patch, topology.strides)


@given(st.integers(1, 6), st.sampled_from(PRESETS))
@settings(max_examples=20)
def test_stages_and_head_add_up(edge: int, preset: str) -> None:
    memory = MemoryModel(Budget(preset=preset), labels=5)  # type: ignore[arg-type]
    patch = (32 * edge,) * 3
    spec = spec_for(memory, patch)
    assert sum(network_elements(spec, patch)) + 5 * math.prod(patch) == memory.elements_of(spec, patch)


def spec_for(memory: MemoryModel, patch: tuple[int, ...]) -> NetworkSpec:
    topology = topology_of((1.0,) * len(patch), patch)
    constants = memory.budget.constants
    return NetworkSpec(
        kind=constants.network,
        in_channels=1,
        classes=2,
        features=features_for(topology.stages, len(patch)),
        kernel_sizes=topology.kernel_sizes,
        strides=topology.strides,
        encoder_blocks=constants.encoder_blocks(topology.stages),
        decoder_blocks=constants.decoder_blocks(topology.stages),
    )


def test_the_reference_fills_the_memory_it_was_tuned_for() -> None:
    for preset in PRESETS:
        memory = MemoryModel(Budget(preset=preset), labels=2)  # type: ignore[arg-type]
        constants = memory.budget.constants
        for n in (2, 3):
            full = memory.gigabytes(constants.reference(n), n, constants.reference_batch(n))
            assert full == pytest.approx(constants.memory_gb)


def test_the_limit_grows_with_the_budget() -> None:
    limits = [MemoryModel(Budget(memory_gb=gb), labels=2).limit(3) for gb in (4, 8, 16)]
    assert limits == [280e6, 560e6, 1120e6]


def test_the_search_of_the_paper_like_prostate() -> None:
    memory = MemoryModel(Budget(), labels=3)
    steps = list(
        shrinking_patches(spacing=(3.6, 0.625, 0.625), start=(20, 320, 320), median_shape=(20, 320, 320), memory=memory)
    )
    assert [(s.patch_size, s.elements, s.axis) for s in steps] == [
        ((20, 320, 320), 604_144_000, 2),
        ((20, 320, 256), 483_315_200, None),
    ]


def test_the_search_of_the_paper_like_liver() -> None:
    memory = MemoryModel(Budget(), labels=3)
    start, median = (215, 279, 279), (432, 512, 512)
    steps = list(shrinking_patches(spacing=(1.0, 0.77, 0.77), start=start, median_shape=median, memory=memory))
    assert [s.patch_size for s in steps[:4]] == [(224, 320, 320), (224, 320, 256), (224, 256, 256), (192, 256, 256)]
    assert (steps[-1].patch_size, steps[-1].elements) == ((128, 128, 128), 452_796_416)


@given(
    st.tuples(st.floats(0.5, 6), st.floats(0.5, 2), st.floats(0.5, 2)),
    st.tuples(*[st.integers(20, 256)] * 3),
    st.sampled_from(PRESETS),
    st.sampled_from([4.0, 8.0, 24.0]),
)
@settings(max_examples=40)
def test_only_the_last_candidate_fits(
    spacing: tuple[float, ...], start: tuple[int, ...], preset: str, gigabytes: float
) -> None:
    memory = MemoryModel(Budget(preset=preset, memory_gb=gigabytes), labels=3)  # type: ignore[arg-type]
    steps = list(shrinking_patches(spacing=spacing, start=start, median_shape=start, memory=memory))
    fits = [memory.gigabytes(s.elements, 3) <= gigabytes for s in steps]
    assert fits == [False] * (len(steps) - 1) + [True]
    assert [s.axis is None for s in steps] == fits


def test_a_budget_that_holds_nothing_is_named() -> None:
    memory = MemoryModel(Budget(memory_gb=0.01), labels=3)
    search = shrinking_patches(spacing=(5.0, 0.5, 0.5), start=(2, 500, 500), median_shape=(2, 500, 500), memory=memory)
    with pytest.raises(PlanError, match=r"no patch fits in 0\.01 GB.*Raise Budget\(memory_gb"):
        list(search)
