"""Where and how precisely to compute, chosen by what is there, with the reason."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from autoseg.core.errors import TrainingError

Precision = Literal["auto", "float32", "bfloat16", "float16"]
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """A device, a precision for convolutions and matrix products, and why."""

    device: torch.device
    precision: Literal["float32", "bfloat16", "float16"]
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the network runs; losses are computed in float32 outside it."""
        dtype = DTYPES[self.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32)

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """Channels last: what the fast kernels of CPUs and GPUs work on."""
        return torch.channels_last_3d if dimensions == 3 else torch.channels_last

    def place(self, network: nn.Module, dimensions: int) -> nn.Module:
        """The network on the device, its weights in that memory format."""
        network.to(self.device)
        return network.to(memory_format=self.memory_format(dimensions))  # type: ignore[call-overload,no-any-return]


def choose_compute(device: str | torch.device | None = None, precision: Precision = "auto") -> Compute:
    """The best device at hand and the precision it is fast in, unless given.

    Raises `TrainingError` for a device that is not there.

    >>> choose_compute("cpu", "float32").reason
    'float32 was asked for'
    """
    chosen = torch.device(device) if device is not None else _best_device()
    _require(chosen)
    if precision != "auto":
        return Compute(device=chosen, precision=precision, reason=f"{precision} was asked for")
    if chosen.type == "cuda":
        return _for_cuda(chosen)
    if chosen.type == "cpu":
        return _for_cpu(chosen)
    return Compute(device=chosen, precision="float32", reason=f"float32 is the safe choice on {chosen.type}")


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _require(device: torch.device) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise TrainingError(
            f"the device {str(device)!r} is not there: torch {torch.__version__} sees none. "
            "Use device='cpu', or install a torch build for your GPU."
        )


def _for_cuda(device: torch.device) -> Compute:
    name = torch.cuda.get_device_name(device)
    if torch.cuda.get_device_capability(device)[0] >= 8:
        return Compute(device=device, precision="bfloat16", reason=f"{name} computes bfloat16 fast, no loss scaling")
    return Compute(device=device, precision="float16", reason=f"{name} has fast float16 but no bfloat16")


def _for_cpu(device: torch.device) -> Compute:
    capability = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    for flag, name in (("amx_bf16", "AMX"), ("amx_tile", "AMX"), ("avx512_bf16", "AVX512-BF16")):
        if capability.get(flag):
            return Compute(
                device=device, precision="bfloat16", reason=f"this processor has {name}, which is made for bfloat16"
            )
    return Compute(
        device=device,
        precision="float32",
        reason="this processor has neither AMX nor AVX512-BF16, so float32 is faster",
    )
