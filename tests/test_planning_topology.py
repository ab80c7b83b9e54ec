"""The shape of the network follows nnU-Net's walk down the patch."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autoseg.core.errors import PlanError
from autoseg.planning.topology import (
    SMALLEST_EDGE,
    Topology,
    bottleneck,
    check_divides,
    divisor_of,
    kernels_for,
    nearest_fitting,
    padded,
    size_before_padding,
    strides_for,
    topology_of,
)

EDGES = st.integers(1, 600)
SPACINGS = st.floats(0.1, 10.0)
SIZES = st.one_of(st.tuples(EDGES, EDGES), st.tuples(EDGES, EDGES, EDGES))


@st.composite
def patches(draw: st.DrawFn) -> tuple[tuple[float, ...], tuple[int, ...]]:
    size = draw(SIZES)
    return tuple(draw(SPACINGS) for _ in size), size


def own_divisor(spacing: tuple[float, ...], size: tuple[float, ...]) -> tuple[int, ...]:
    return divisor_of(strides_for(spacing, size))


@given(patches())
def test_a_padded_patch_is_divided_by_its_own_network(patch: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    spacing, size = patch
    whole = padded(size, own_divisor(spacing, size))
    assert strides_for(spacing, whole) == strides_for(spacing, size)
    assert padded(whole, own_divisor(spacing, whole)) == whole


@given(patches())
def test_halved_axes_keep_four_voxels(patch: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    spacing, size = patch
    divisor = own_divisor(spacing, size)
    left = bottleneck(size, divisor)
    assert all(n >= SMALLEST_EDGE for n, d in zip(left, divisor, strict=True) if d > 1)


@given(patches())
def test_kernels_grow_to_three_and_stay(patch: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    spacing, size = patch
    kernels = kernels_for(spacing, strides_for(spacing, size))
    assert len(kernels) == len(strides_for(spacing, size))
    assert set(kernels[-1]) == {3}
    for axis in zip(*kernels, strict=True):
        assert list(axis) == sorted(axis)
        assert set(axis) <= {1, 3}


@given(patches(), st.sampled_from([0.25, 2.0, 1024.0]))
def test_only_ratios_of_spacing_count(patch: tuple[tuple[float, ...], tuple[int, ...]], factor: float) -> None:
    spacing, size = patch
    assert topology_of(tuple(s * factor for s in spacing), size) == topology_of(spacing, size)


@given(patches())
@settings(max_examples=60)
def test_the_nearest_patches_fit_and_enclose(patch: tuple[tuple[float, ...], tuple[int, ...]]) -> None:
    spacing, size = patch
    smaller, larger = nearest_fitting(spacing, size)
    for found in (smaller, larger):
        assert padded(found, own_divisor(spacing, found)) == found
    assert all(a <= b <= c for a, b, c in zip(smaller, size, larger, strict=True))


def test_the_known_network_of_an_anisotropic_scan() -> None:
    topology = topology_of((5.0, 1.56, 1.56), (20, 256, 224))
    assert topology.strides == ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2))
    assert topology.kernel_sizes == ((1, 3, 3),) + ((3, 3, 3),) * 5


def test_a_single_axis_needs_twelve_voxels_to_go_on_alone() -> None:
    assert own_divisor((1.0, 1.0), (7, 11)) == (1, 1)
    assert own_divisor((1.0, 1.0), (7, 12)) == (1, 2)


def test_half_voxels_are_not_rounded_up_before_halving() -> None:
    size = size_before_padding((21.0, 7.5), (22, 8), (1.0, 1.0))
    assert size == (21.0, 7.5)
    assert topology_of((1.0, 1.0), size).strides == ((1, 1), (2, 1))
    assert topology_of((1.0, 1.0), (22, 8)).strides == ((1, 1), (2, 2))


def test_a_patch_that_does_not_divide_is_refused_with_the_nearest() -> None:
    topology = Topology(((1, 1), (2, 2), (2, 2)), ((3, 3),) * 3)
    with pytest.raises(PlanError, match=r"30x32 voxels cannot be divided.*multiples of 4x4.*28x32 and 32x32"):
        check_divides((30, 32), topology)
    check_divides((32, 32), topology)


def test_the_divisor_is_the_product_of_strides() -> None:
    strides = strides_for((1.0, 1.0, 1.0), (128, 96, 40))
    assert divisor_of(strides) == tuple(math.prod(s[a] for s in strides) for a in range(3))
