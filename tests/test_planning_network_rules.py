"""Rules about networks: the search for a patch, the network on it, and the batch."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_examples import fingerprint_of, fingerprints

from autoseg.data.labels import Labels
from autoseg.planning import network_rules
from autoseg.planning.budget import Budget
from autoseg.planning.memory import MemoryModel
from autoseg.planning.planner import make_plan

MEMORY = MemoryModel(Budget(), labels=3)
EVEN = (1.0, 1.0, 1.0)


def patch(shape, *, spacing=EVEN, memory=MEMORY):
    start = network_rules.initial_patch_size(spacing=spacing, median_shape=shape).value
    return network_rules.patch_size(spacing=spacing, initial_patch_size=start, median_shape=shape, memory=memory)


def test_the_search_begins_with_as_many_millimetres_along_each_axis():
    start = network_rules.initial_patch_size(spacing=(4.0, 1.0, 1.0), median_shape=(999.0,) * 3).value
    assert start[1] == start[2]
    assert start[1] == pytest.approx(4 * start[0], rel=0.02)
    assert math.prod(start) == pytest.approx(256**3, rel=0.02)


def test_the_search_begins_no_larger_than_the_median_image():
    because = network_rules.initial_patch_size(spacing=EVEN, median_shape=(20.0, 300.0, 300.0))
    assert because.value == (20.0, 256, 256)
    assert "cut to the median image along axis 0" in because.reason


def test_an_image_that_fits_is_taken_whole():
    because = patch((40.0, 56.0, 40.0))
    assert because.value == (40, 56, 40)
    assert because.branch == "the median image fits"
    assert len(because.tried) == 1


def test_a_large_image_is_shortened_until_it_fits():
    because = patch((500.0, 500.0, 500.0))
    assert because.value == (128, 128, 128)
    *larger, chosen = because.tried
    assert chosen.accepted
    assert chosen.numbers["memory_gb"] <= 8
    assert all(attempt.numbers["memory_gb"] > 8 and not attempt.accepted for attempt in larger)


@settings(max_examples=20, deadline=None)
@given(st.floats(1.0, 40.0), st.floats(1.05, 4.0))
def test_more_memory_never_means_a_smaller_patch(gigabytes, more):
    small, large = (
        patch((300.0,) * 3, memory=MemoryModel(Budget(memory_gb=gb), labels=3)).value
        for gb in (gigabytes, gigabytes * more)
    )
    assert math.prod(small) <= math.prod(large)


def test_a_coarse_axis_is_halved_later_with_flat_kernels():
    shape, spacing = (16, 256, 256), (4.0, 1.0, 1.0)
    topology = network_rules.topology(spacing=spacing, initial_patch_size=shape, patch_size=shape).value
    assert topology.strides[1] == (1, 2, 2)
    assert topology.kernel_sizes[0] == (1, 3, 3)
    assert topology.kernel_sizes[-1] == (3, 3, 3)


def test_features_double_up_to_their_limit():
    for dimensions, most in ((2, 512), (3, 320)):
        shape = (256,) * dimensions
        topology = network_rules.topology(spacing=(1.0,) * dimensions, initial_patch_size=shape, patch_size=shape).value
        features = network_rules.features(topology=topology).value
        assert features[:4] == (32, 64, 128, 256)
        assert features[-1] == most


@pytest.mark.parametrize(
    ("edge", "stages", "said"),
    [(6, 1, "nnU-Net cannot run such a network"), (8, 2, "training NaN"), (16, 3, None)],
)
def test_images_too_small_for_nnunet_get_a_network_that_says_so(edge, stages, said):
    decision = make_plan(fingerprint_of((edge,) * 3)).trace["3d_fullres/topology"]
    assert decision.value.stages == stages
    assert (said in decision.reason) if said else "nnU-Net" not in decision.reason


@pytest.mark.parametrize("edge", [1, 3, 6, 8])
@pytest.mark.parametrize("preset", ["default", "resenc_m"])
def test_networks_for_tiny_images_learn_without_nan(edge, preset):
    torch = pytest.importorskip("torch")
    from autoseg.networks.unet import build_unet
    from autoseg.training.losses import supervision_weights

    configuration = make_plan(fingerprint_of((edge, 8, 8)), Budget(preset=preset))["2d"]
    network = build_unet(configuration.network)
    network.deep_supervision = True
    outputs = network(torch.rand(2, 1, *configuration.patch_size))
    weights = supervision_weights(len(outputs))
    loss = sum(w * o.square().mean() for w, o in zip(weights, outputs, strict=True))
    loss.backward()
    assert torch.isfinite(loss)
    assert outputs[0].shape[2:] == configuration.patch_size
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.grad is not None)


def test_the_network_has_an_input_for_each_channel_and_label_of_the_stage_before():
    plan = make_plan(fingerprint_of((400, 400, 400), channels=("T1", "T2"), foreground=3))
    assert plan["3d_fullres"].network.in_channels == 2
    assert plan["3d_cascade_fullres"].network.in_channels == 2 + 3
    assert plan["3d_fullres"].network.classes == 4


def test_regions_have_an_output_each_and_no_background():
    labels = Labels({"background": 0, "whole": (1, 2), "core": 2}, region_order=(1, 2))
    plan = make_plan(fingerprint_of((60, 60, 60))).what_if(labels=labels)
    assert plan["3d_fullres"].network.classes == 2


@pytest.mark.parametrize(
    ("cases", "batch", "branch"),
    [(2, 2, "smallest batch"), (100, 4, "dataset decides"), (2000, 58, "memory decides")],
)
def test_the_batch_is_what_memory_holds_but_no_more_than_a_share_of_the_dataset(cases, batch, branch):
    decision = make_plan(fingerprint_of((36, 50, 35), cases=cases)).trace["3d_fullres/batch_size"]
    assert decision.value == batch
    assert decision.branch == branch


def test_a_larger_share_of_the_dataset_allows_a_larger_batch():
    plan = make_plan(fingerprint_of((36, 50, 35), cases=10))
    # 40x56x40 voxels a patch, 10 cases of 36x50x35
    batches = [plan.what_if(max_dataset_fraction=share)["3d_fullres"].batch_size for share in (0.01, 0.5, 1.0)]
    assert batches == [2, 4, 7]


@pytest.mark.parametrize(
    ("patch_size", "degrees", "flat"),
    [((128, 128, 128), 30.0, False), ((32, 96, 96), 30.0, False), ((32, 97, 97), 180.0, True)]
    + [((96, 96), 180.0, False), ((96, 64), 180.0, False), ((97, 64), 15.0, False)],
)
def test_flat_and_oblong_patches_turn_otherwise(patch_size, degrees, flat):
    settings = network_rules.augmentation(patch_size=patch_size).value
    assert settings.rotation_degrees == degrees
    assert settings.dummy_2d == flat
    assert (settings.initial_patch_size[0] == patch_size[0]) == flat


@settings(max_examples=40, deadline=None)
@given(fingerprints())
def test_what_is_cut_for_augmentation_holds_the_patch(fingerprint):
    for configuration in make_plan(fingerprint):
        cut = configuration.augmentation.initial_patch_size
        assert all(c >= p for c, p in zip(cut, configuration.patch_size, strict=True))


@pytest.mark.parametrize(
    ("room", "cap", "taken"),
    [
        (2, 9, "as many patches as memory holds"),
        (9, 2, "5% of the dataset's voxels"),
        (2, 0, "the smallest batch allowed"),
    ],
)
def test_candidates_for_the_batch_that_are_equal_stay_apart(room, cap, taken):
    network = make_plan(fingerprint_of((64, 64, 64)))["3d_fullres"].network
    elements = MEMORY.elements_of(network, (64, 64, 64))
    memory = MemoryModel(Budget(memory_gb=8 * room / 2 * elements / MEMORY.limit(3)), labels=3)
    because = network_rules.batch_size(
        patch_size=(64, 64, 64), network=network, memory=memory, dataset_shape=(64.0, 64.0, 64.0 * 20 * cap), cases=1
    )
    assert because.value == 2
    assert [attempt.value for attempt in because.tried] == [room, cap, 2]
    assert [attempt.outcome for attempt in because.tried if attempt.accepted] == [taken]


def test_a_batch_tells_thousands_of_patches_apart():
    because = make_plan(fingerprint_of((36, 50, 35), cases=10)).trace["2d/batch_size"].reason
    assert because.startswith("memory holds 1,")
