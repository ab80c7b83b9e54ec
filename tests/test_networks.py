"""The networks are nnU-Net's: same parameter counts, same output sizes, same numbers as torch's own layers."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from autoseg.core.errors import PlanError
from autoseg.networks.blocks import InstanceNorm, ResidualBlock, VolumeConv
from autoseg.networks.unet import build_unet
from autoseg.planning.configuration import NetworkSpec


def spec(kind="plain", dimensions=3, stages=3, features=(4, 8, 16), blocks=(2, 2, 2), classes=3, channels=2):
    ones, twos, threes = (1,) * dimensions, (2,) * dimensions, (3,) * dimensions
    return NetworkSpec(
        kind=kind,
        in_channels=channels,
        classes=classes,
        features=features,
        kernel_sizes=(threes,) * stages,
        strides=(ones, *(twos,) * (stages - 1)),
        encoder_blocks=blocks,
        decoder_blocks=(1 if kind == "residual" else 2,) * (stages - 1),
    )


BRATS = {"stages": 6, "features": (32, 64, 128, 256, 320, 320), "classes": 4, "channels": 4}


@pytest.mark.parametrize(
    ("kind", "blocks", "parameters"),
    [("plain", (2,) * 6, 31_199_796), ("residual", (1, 3, 4, 6, 6, 6), 102_353_972)],
)
def test_parameter_count_equals_nnunets_network(kind, blocks, parameters):
    with torch.device("meta"):  # counted, not filled
        network = build_unet(spec(kind, blocks=blocks, **BRATS))
    assert sum(p.numel() for p in network.parameters()) == parameters


@pytest.mark.parametrize("kind", ["plain", "residual"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_logits_have_the_size_of_the_image(kind, dimensions):
    network = build_unet(spec(kind, dimensions))
    assert network(torch.zeros(2, 2, *(16,) * dimensions)).shape == (2, 3, *(16,) * dimensions)


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_deep_supervision_gives_every_resolution_but_the_bottleneck(kind):
    network = build_unet(spec(kind))
    network.deep_supervision = True
    assert [o.shape[-1] for o in network(torch.zeros(1, 2, 8, 8, 8))] == [8, 4]


@pytest.mark.parametrize("kind", ["plain", "residual"])
def test_every_parameter_is_trained(kind):
    network = build_unet(spec(kind))
    network.deep_supervision = True
    sum(o.square().sum() for o in network(torch.randn(2, 2, 8, 8, 8))).backward()
    assert [n for n, p in network.named_parameters() if p.grad is None] == []


def test_anisotropic_kernels_and_strides_are_kept():
    network = build_unet(
        NetworkSpec(
            in_channels=1,
            classes=2,
            features=(4, 8),
            kernel_sizes=((1, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (1, 2, 2)),
            encoder_blocks=(2, 2),
            decoder_blocks=(2,),
        )
    )
    assert network(torch.zeros(1, 1, 5, 8, 8)).shape == (1, 2, 5, 8, 8)


@pytest.mark.parametrize("shape", [(3, 5, 6, 7), (3, 5, 4, 6, 7)])
def test_instance_norm_equals_torchs(shape):
    x = torch.randn(shape, requires_grad=True)
    norm = InstanceNorm(5)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    expected = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    torch.testing.assert_close(norm(x), expected, atol=1e-5, rtol=1e-5)
    (ours,) = torch.autograd.grad(norm(x).pow(3).sum(), x)
    (theirs,) = torch.autograd.grad(F.instance_norm(x, weight=norm.weight, bias=norm.bias).pow(3).sum(), x)
    torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_instance_norm_of_a_single_voxel_is_its_shift():
    torch.testing.assert_close(
        InstanceNorm(2)(torch.randn(1, 2, 1, 1, 1)), torch.zeros(1, 2, 1, 1, 1), atol=1e-4, rtol=0
    )


def test_residual_blocks_start_as_the_identity():
    network = build_unet(spec("residual"))
    block = next(m for m in network.modules() if isinstance(m, ResidualBlock) and not len(m.skip))
    x = torch.rand(1, block.second[0].in_channels, 4, 4, 4)
    torch.testing.assert_close(block(x), x)


def test_a_spec_with_uneven_settings_is_refused():
    with pytest.raises(PlanError, match="a network of 2 stages needs 2 entries"):
        NetworkSpec(
            in_channels=1,
            classes=2,
            features=(4,),
            kernel_sizes=((3, 3),) * 2,
            strides=((1, 1), (2, 2)),
            encoder_blocks=(2, 2),
            decoder_blocks=(2,),
        )


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([(1, 3, 3), (3, 3, 3), (1, 1, 1)]),
    st.sampled_from([(1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 1, 1)]),
    st.integers(1, 20),
)
def test_slicewise_convolution_equals_torchs(kernel, stride, depth):
    conv = VolumeConv(2, 3, kernel, stride, tuple(k // 2 for k in kernel))
    x = torch.randn(2, 2, depth, 6, 7).contiguous(memory_format=torch.channels_last_3d)
    expected = F.conv3d(x, conv.weight, conv.bias, conv.stride, conv.padding)
    torch.testing.assert_close(conv(x), expected, atol=1e-5, rtol=1e-5)


def test_shallow_wide_volumes_train_in_bfloat16():
    network = build_unet(
        NetworkSpec(
            in_channels=1,
            classes=2,
            features=(16, 32),
            kernel_sizes=((1, 3, 3), (3, 3, 3)),
            strides=((1, 1, 1), (1, 2, 2)),
            encoder_blocks=(2, 2),
            decoder_blocks=(2,),
        )
    ).to(memory_format=torch.channels_last_3d)
    x = torch.randn(1, 1, 10, 256, 256).contiguous(memory_format=torch.channels_last_3d)
    for _ in range(2):  # the heap was damaged in the first step and noticed in the second
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = network(x).float().square().mean()
        loss.backward()
    assert torch.isfinite(loss)
