"""Where and how precisely to compute, chosen by what is there, with the reason."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from autoseg.core.errors import TrainingError
from autoseg.training.cores import keep_to_quota

Precision = Literal["auto", "float32", "bfloat16", "float16"]
MPS_SINCE = (2, 8)  # the first torch whose Apple backend has transposed 3D convolutions
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Compute:
    """A device, a precision for convolutions and matrix products, and why."""

    device: torch.device
    precision: Literal["float32", "bfloat16", "float16"]
    reason: str

    def autocast(self) -> AbstractContextManager[object]:
        """The context in which the network runs; losses are computed in float32 outside it."""
        if self.precision == "float32":  # autocast itself complains about float32 on some devices
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=DTYPES[self.precision])

    @property
    def augmenting_device(self) -> torch.device:
        """Where patches are augmented: Apple's GPU lacks 3D operations that the spatial transform needs."""
        return torch.device("cpu") if self.device.type == "mps" else self.device

    def wait(self) -> None:
        """Until the device has done what it was told, so that its time can be read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def memory_format(self, dimensions: int) -> torch.memory_format:
        """Channels last: what the fast kernels of CPUs and of Nvidia's GPUs work on."""
        if self.device.type == "mps":
            return torch.contiguous_format
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
    chosen = _named(device) if device is not None else _best_device()
    _require(chosen)
    remark = keep_to_quota() if chosen.type == "cpu" else ""
    if precision != "auto":
        return Compute(device=chosen, precision=precision, reason=f"{precision} was asked for{remark}")
    if chosen.type == "cuda":
        return _for_cuda(chosen)
    if chosen.type == "cpu":
        return replace(cpu := _for_cpu(chosen), reason=cpu.reason + remark)
    if chosen.type == "mps":
        return Compute(
            device=chosen, precision="float32", reason="Apple's GPU transposes 3D convolutions only in float32"
        )
    return Compute(device=chosen, precision="float32", reason=f"float32 is the safe choice on {chosen.type}")


def _best_device() -> torch.device:
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available() and _version() >= MPS_SINCE:
        return torch.device("mps")
    return torch.device("cpu")


def _version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


def _named(device: str | torch.device) -> torch.device:
    try:
        return torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise TrainingError(f"there is no device {device!r}. Use 'cuda', 'mps' or 'cpu', or leave it out.") from error


def _require(device: torch.device) -> None:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise TrainingError(
            f"the device {str(device)!r} is not there: torch {torch.__version__} sees none. "
            "Use device='cpu', or install a torch build for your GPU."
        )


def _for_cuda(device: torch.device) -> Compute:
    name, generation = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)[0]
    if generation < 7:
        return Compute(
            device=device, precision="float32", reason=f"{name} has no tensor cores, so half precision is slow"
        )
    if generation >= 8:
        return Compute(device=device, precision="bfloat16", reason=f"{name} computes bfloat16 fast, no loss scaling")
    reason = f"{name} has fast float16 but no bfloat16, so the loss is scaled"
    return Compute(device=device, precision="float16", reason=reason)


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
