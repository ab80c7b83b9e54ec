"""nnU-Net's checkpoints: weights and log out of a ``.pth`` file without running anything, and how it names weights.

Source: nnU-Net 2.8 ``nnUNetTrainer.save_checkpoint``; dynamic_network_architectures 0.4 for the names.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from autoseg.core.archives import open_archive
from autoseg.core.errors import ModelError, StorageError
from autoseg.networks.unet import weight_shapes
from autoseg.planning.configuration import NetworkSpec
from autoseg.training.history import EpochRecord, History
from autoseg.training.model import as_cpu

NUMBERS = {"f2", "f4", "f8", "i4", "i8"}
INDEX = {"conv": 0, "norm": 1}  # where a unit keeps its two layers, here and in nnU-Net's ``all_modules``


class _NumberType:
    """Stands in for ``numpy.dtype`` and arrays while a checkpoint is read: nothing of numpy is called."""

    def __init__(self, code: str = "", *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which is not needed."""


def _number(kind: _NumberType, content: bytes = b"") -> float:
    """Stands in for numpy's scalars: the number, or NaN for what is none."""
    size = int(kind.code[1:]) if kind.code in NUMBERS else 0
    return float(np.frombuffer(content, f"<{kind.code}")[0]) if size and len(content) == size else float("nan")


STAND_INS: list[Any] = [
    (_NumberType, "numpy.dtype"),
    (_number, "numpy._core.multiarray.scalar"),
    (_number, "numpy.core.multiarray.scalar"),
    *((_NumberType, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    (_NumberType, "numpy.ndarray"),
    *((_NumberType, f"numpy.dtypes.{name}DType") for name in ("Float16", "Float32", "Float64", "Int32", "Int64")),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint tells: weights by nnU-Net's names, and how they were trained."""

    weights: Mapping[str, Any]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    log: Mapping[str, Any]

    def history(self, labels: tuple[str, ...]) -> History:
        """nnU-Net's log as a history; empty where it is not as nnU-Net writes it."""
        try:
            return History(tuple(self._epochs(len(labels))), labels)
        except (TypeError, ValueError, AttributeError):
            return History((), labels)

    def _epochs(self, labels: int) -> Iterator[EpochRecord]:
        keys = ("train_losses", "val_losses", "dice_per_class_or_region", "lrs")
        times = [self.log.get(f"epoch_{end}_timestamps", []) for end in ("start", "end")]
        columns = [self.log.get(key, []) for key in keys]
        seconds = itertools.accumulate(end - start for start, end in zip(*times, strict=False))
        rows = zip(seconds, *columns, strict=False)
        for number, (passed, loss, validation, dice, rate) in enumerate(rows):
            if len(dice) == labels:
                yield EpochRecord(
                    number=number,
                    iterations=0,
                    seconds=float(passed),
                    training_loss=float(loss),
                    validation_loss=float(validation),
                    pseudo_dice=tuple(float(d) for d in dice),
                    learning_rate=float(rate),
                    timings={},
                )


def read_checkpoint(file: BinaryIO, name: str) -> Checkpoint:
    """Read a ``checkpoint_*.pth`` of nnU-Net; `name` is what errors call it.

    Raises `ModelError` for a file that is damaged, that asks for code to be run, or that lacks something.
    """
    content = _loaded(file, name)
    try:
        return Checkpoint(
            weights=dict(content["network_weights"]),
            configuration=str(content["init_args"]["configuration"]),
            trainer=str(content["trainer_name"]),
            mirror_axes=tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ()),
            log=dict(content.get("logging") or {}),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelError(f"{name} is no checkpoint of nnU-Net: {error!r} is missing or of the wrong kind.") from error


def _loaded(file: BinaryIO, name: str) -> Any:
    try:
        with open_archive(file, name) as archive:
            packed = [entry.filename for entry in archive.file.infolist() if entry.compress_type]
            damaged = None if packed else archive.file.testzip()
    except StorageError as error:
        raise ModelError(str(error)) from error
    if packed:
        raise ModelError(f"{name} holds {packed[0]} compressed, as torch never writes it. It was not opened.")
    if damaged:
        raise ModelError(f"{damaged} in {name} is damaged: its checksum is another one. Get the file again.")
    with torch.serialization.safe_globals(STAND_INS):
        try:
            _require_harmless(file, name)
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=True)
        except ModelError:
            raise
        except Exception as error:
            raise ModelError(f"{name} cannot be read: {error!r}"[:300] + ". Get the file again.") from error


def _require_harmless(file: BinaryIO, name: str) -> None:
    file.seek(0)
    asked = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    if asked:
        raise ModelError(
            f"{name} asks for {', '.join(sorted(asked)[:3])} to be called, which a model has no need of. "
            "It was not opened. Get the model again from somebody you trust."
        )


def names_in_nnunet(spec: NetworkSpec) -> dict[str, tuple[str, ...]]:
    """For each of our names of a weight, all of nnU-Net's: its networks list a layer up to four times.

    >>> spec = NetworkSpec(in_channels=1, classes=2, features=(4, 8), kernel_sizes=((3, 3),) * 2,
    ...                    strides=((1, 1), (2, 2)), encoder_blocks=(1, 1), decoder_blocks=(1,))
    >>> names_in_nnunet(spec)["decoder.0.0.0.bias"]
    ('decoder.stages.0.convs.0.conv.bias', 'decoder.stages.0.convs.0.all_modules.0.bias')
    """
    return {name: tuple(_aliases(_name_in_nnunet(name, spec))) for name in weight_shapes(spec)}


def _name_in_nnunet(name: str, spec: NetworkSpec) -> str:
    part, _, rest = name.partition(".")
    if part == "stem":
        return f"encoder.stem.convs.0.{_layer(rest)}"
    number, _, rest = rest.partition(".")
    from_bottom = spec.stages - 2 - int(number)
    if part in ("upsampling", "heads"):
        return f"decoder.{'transpconvs' if part == 'upsampling' else 'seg_layers'}.{from_bottom}.{rest}"
    repeat, _, rest = rest.partition(".")
    if part == "decoder":
        return f"decoder.stages.{from_bottom}.convs.{repeat}.{_layer(rest)}"
    if spec.kind == "plain":
        return f"encoder.stages.{number}.0.convs.{repeat}.{_layer(rest)}"
    inner, _, rest = rest.partition(".")
    if inner == "skip":  # skip.<place>.<layer>: the place is 1 after a pooling
        place, _, rest = rest.partition(".")
        return f"encoder.stages.{number}.blocks.{repeat}.skip.{place}.{_layer(rest)}"
    return f"encoder.stages.{number}.blocks.{repeat}.{'conv1' if inner == 'first' else 'conv2'}.{_layer(rest)}"


def _layer(rest: str) -> str:
    """``0.weight`` is the convolution's, ``1.weight`` the norm's."""
    place, _, what = rest.partition(".")
    return f"{'norm' if int(place) else 'conv'}.{what}"


def _aliases(name: str) -> Iterator[str]:
    twin = re.sub(r"\.(conv|norm)\.(\w+)$", lambda m: f".all_modules.{INDEX[m[1]]}.{m[2]}", name)
    for alias in dict.fromkeys((name, twin)):
        yield alias
        if alias.startswith("encoder."):
            yield f"decoder.{alias}"  # the decoder keeps the encoder


def weights_from_nnunet(weights: Mapping[str, Any], spec: NetworkSpec, name: str) -> dict[str, Tensor]:
    """A checkpoint's weights by our names. Raises `ModelError` where they are not those of the plan's network."""
    clean = {re.sub(r"^(module\.|_orig_mod\.)+", "", key): value for key, value in weights.items()}
    shapes = weight_shapes(spec, among=len(clean))
    names, found = names_in_nnunet(spec), {}
    known = set(itertools.chain.from_iterable(names.values()))
    for ours, shape in shapes.items():
        theirs, tensor = names[ours][0], clean.get(names[ours][0])
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != shape:
            there = tuple(tensor.shape) if isinstance(tensor, Tensor) else "missing"
            raise ModelError(
                f"{name} does not fit the plan's {spec}: {theirs} is {there}, it must be {shape}. "
                "Was it trained by a trainer with a network of its own?"
            )
        found[ours] = tensor.float()
    unknown = sorted(set(clean) - known)
    if unknown:
        raise ModelError(f"{name} holds {unknown[0]}, which the plan's {spec} does not have.")
    return as_cpu(found)


def weights_to_nnunet(weights: Mapping[str, Tensor], spec: NetworkSpec) -> dict[str, Tensor]:
    """Weights under all of nnU-Net's names, as its strict loading wants them."""
    names = names_in_nnunet(spec)
    return {theirs: tensor for ours, tensor in weights.items() for theirs in names[ours]}
