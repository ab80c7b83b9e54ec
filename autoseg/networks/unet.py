"""nnU-Net's two networks: the plain convolutional U-Net and the one with a residual encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from autoseg.core.errors import ModelError
from autoseg.networks.blocks import CONVOLUTIONS, TRANSPOSED, ConvUnit, conv_stack, initialize, residual_stack
from autoseg.planning.configuration import NetworkSpec


class UNet(nn.Module):
    """An encoder, a decoder with skips, and a head at each decoder stage.

    Returns logits of shape (batch, class, *space). With ``deep_supervision`` set it returns a list of them, the full
    resolution first, one for each stage but the bottleneck; a network of one stage has its one output there.
    """

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.deep_supervision = False
        features, kernels, strides = spec.features, spec.kernel_sizes, spec.strides
        residual = spec.kind == "residual"
        stack = residual_stack if residual else conv_stack
        entry = features[0] if residual else spec.in_channels
        ones = (1,) * spec.dimensions
        self.stem = ConvUnit((spec.in_channels, features[0]), kernels[0], ones) if residual else nn.Identity()
        incoming = (entry, *features[:-1])
        self.encoder = nn.ModuleList(
            stack((incoming[i], features[i]), kernels[i], strides[i], spec.encoder_blocks[i])
            for i in range(spec.stages)
        )
        transposed, head = TRANSPOSED[spec.dimensions], CONVOLUTIONS[spec.dimensions]
        shallow_first = range(spec.stages - 1)  # decoder[i] works at the resolution of encoder[i]
        self.upsampling = nn.ModuleList(
            transposed(features[i + 1], features[i], strides[i + 1], strides[i + 1]) for i in shallow_first
        )
        self.decoder = nn.ModuleList(
            conv_stack((2 * features[i], features[i]), kernels[i], ones, spec.decoder_blocks[i]) for i in shallow_first
        )
        self.heads = nn.ModuleList(head(features[i], spec.classes, 1) for i in range(max(1, spec.stages - 1)))
        initialize(self)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """Shape (batch, channel, *space); every space axis must be a multiple of the spec's divisor."""
        x = self.stem(x)
        skips = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        outputs: list[Tensor] = [] if self.decoder else [self.heads[0](x)]
        for i in reversed(range(len(self.decoder))):
            x = self.decoder[i](torch.cat((self.upsampling[i](x), skips[i]), dim=1))
            if self.deep_supervision or i == 0:
                outputs.insert(0, self.heads[i](x))
        return outputs if self.deep_supervision else outputs[0]


def full_resolution(outputs: Any) -> Tensor:
    """What a network returns, or the first of it where it returns several resolutions."""
    finest: Tensor = outputs[0] if isinstance(outputs, list | tuple) else outputs
    return finest


def build_unet(spec: NetworkSpec) -> UNet:
    """The network that a plan describes, freshly initialized from torch's current random state.

    Source: Isensee et al. 2021 (plain), Isensee et al. 2024 (residual encoder).

    >>> spec = NetworkSpec(in_channels=1, classes=3, features=(8, 16), kernel_sizes=((3, 3, 3),) * 2,
    ...                    strides=((1, 1, 1), (2, 2, 2)), encoder_blocks=(2, 2), decoder_blocks=(2,))
    >>> build_unet(spec)(torch.zeros(1, 1, 8, 8, 8)).shape
    torch.Size([1, 3, 8, 8, 8])
    """
    return UNet(spec)


def weight_shapes(spec: NetworkSpec, *, among: int | None = None) -> dict[str, tuple[int, ...]]:
    """The shape of every weight of a network, without making one.

    Raises `ModelError` for numbers that make none, and for a network that needs more weights than there are: `among`.
    """
    if among is not None and sum(spec.encoder_blocks) + sum(spec.decoder_blocks) > among:
        raise ModelError(f"there are {among} weights, too few for the plan's {spec}.")
    try:
        with torch.device("meta"):
            return {name: tuple(tensor.shape) for name, tensor in build_unet(spec).state_dict().items()}
    except (RuntimeError, ValueError, TypeError, LookupError, ArithmeticError) as error:
        raise ModelError(f"no network can be built of the plan's numbers ({spec}): {error}") from error
