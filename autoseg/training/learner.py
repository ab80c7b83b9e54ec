"""What a training step changes: the network, the running mean of its weights, the optimizer, the loss scale."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from autoseg.core.errors import StorageError, TrainingError
from autoseg.networks.unet import UNet
from autoseg.planning.configuration import Configuration
from autoseg.training.blueprint import Blueprint
from autoseg.training.checkpoints import Checkpoint
from autoseg.training.compute import Compute
from autoseg.training.losses import deep_supervision_loss, default_loss
from autoseg.training.model import TrainedModel, as_cpu, build_network
from autoseg.training.spatial import Batch
from autoseg.training.team import Team
from autoseg.training.transfer import Transfer, take_over

PATIENCE = 20  # float16 steps in a row that may overflow: a new loss scale of 65536 needs about 15 halvings at most


class Diverged(TrainingError):
    """The loss or its gradient is no longer a number."""


class Stopwatch:
    """Adds up where the seconds of an epoch go; a GPU is waited for, or its work would count as somebody else's."""

    def __init__(self, wait: Callable[[], None] = lambda: None) -> None:
        self.wait = wait
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.wait()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


class Learner:
    """Built from a configuration and a blueprint; `step` learns from one batch, `evaluate` judges one."""

    def __init__(self, configuration: Configuration, blueprint: Blueprint, compute: Compute) -> None:
        self.blueprint, self.compute, self.outputs = blueprint, compute, configuration.labels.outputs
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(blueprint.seed))
            network = _required(build_network(configuration, blueprint), configuration.dimensions)
        self.network = compute.place(network, configuration.dimensions)
        self.averaged = copy.deepcopy(self.network) if blueprint.weight_averaging else self.network
        self.called: Callable[[Tensor], Any] = torch.compile(self.network) if blueprint.compiled else self.network
        self.optimizer = make_optimizer(self.network, blueprint)
        self.scaler = self._new_scaler()
        self.loss = blueprint.loss or default_loss(configuration.labels, batch_dice=configuration.batch_dice)
        if isinstance(self.loss, nn.Module):
            self.loss.to(compute.device)  # it may hold weights
        self.overflows, self.team = 0, Team.current()
        self._buffers: list[Tensor] = []  # as they were before the step under way

    def _new_scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.compute.device.type, enabled=self.compute.precision == "float16")

    def start_from(self, model: TrainedModel) -> Transfer:
        """Take over the weights of a trained model that fit."""
        transfer = take_over(self.network, model)
        self.averaged.load_state_dict(self.network.state_dict())
        return transfer

    def take(self, model: TrainedModel, folder: Path) -> None:
        """Become the finished model of a folder. Raises `StorageError` where its weights do not fit."""
        try:
            for module in self._modules.values():
                module.load_state_dict(dict(model.weights))
        except RuntimeError as error:
            raise StorageError(
                f"the weights in {folder} do not fit the network of this training: "
                f"{str(error).strip().splitlines()[-1].strip()} Delete the folder to train it from its beginning."
            ) from error

    def differentiate(self, batch: Batch, rate: float, watch: Stopwatch) -> Tensor:
        """Forward and backward on one batch at a learning rate; no weight changes yet. Returns the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._buffers = [buffer.clone() for buffer in self.network.buffers()]
        self.network.train()
        with watch("forward"):
            _, loss = self._forward(self.called, self.network, *batch)
        if not loss.requires_grad:
            raise TrainingError("the loss depends on no weight: it was detached, or the network is frozen.")
        with watch("backward"):
            self.optimizer.zero_grad(set_to_none=True)
            loss = loss * self.team.weight(len(batch[0]), loss.device)
            self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            self.team.average_gradients(self.network)
        return self.team.mean(loss.detach())

    def update(self, loss: Tensor, steps_before: int) -> float:
        """Change the weights by the gradients that are there. Returns the loss as a number.

        Raises `Diverged` where loss or gradient is not a number; no weight has been changed then.
        """
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.blueprint.gradient_clip)
        value, length = torch.stack((loss.float(), norm.float())).tolist()
        self._require_numbers(value, length)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.averaged is not self.network:
            self._average(steps_before)
        self._buffers = []
        return float(value)

    @torch.no_grad()
    def take_back(self) -> None:
        """Undo what a forward pass without its update has changed: a batch norm's statistics, in networks of your own.

        They may be NaN. After an update there is nothing to undo.
        """
        for buffer, before in zip(self.network.buffers(), self._buffers, strict=False):
            buffer.copy_(before)
        self._buffers = []

    def _require_numbers(self, loss: float, gradient: float) -> None:
        sound = math.isfinite(loss) and math.isfinite(gradient)
        self.overflows = 0 if sound else self.overflows + 1
        if not sound:
            self.take_back()
        if sound or (self.scaler.is_enabled() and self.overflows < PATIENCE):  # the scaler then leaves the step out
            return
        what, value = ("the gradient of the loss", gradient) if math.isfinite(loss) else ("the loss", loss)
        raise Diverged(f"{what} became {value}")

    def _average(self, steps_before: int) -> None:
        keep = min(self.blueprint.weight_averaging, (1 + steps_before) / (10 + steps_before))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - keep)
            for mean, now in zip(self.averaged.buffers(), self.network.buffers(), strict=True):
                mean.copy_(now)  # statistics of a batch norm, in networks of the user's own

    @torch.no_grad()
    def evaluate(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Logits at full resolution, and the loss, of the weights that the model will have."""
        self.averaged.eval()
        return self._forward(self.averaged, self.averaged, images, labels)

    def _forward(
        self, call: Callable[[Tensor], Any], network: nn.Module, images: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        if isinstance(network, UNet):
            network.deep_supervision = self.blueprint.deep_supervision
        with self.compute.autocast():
            outputs = self._called(call, images)
        outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
        self._require_logits(outputs[0] if outputs else None, images)
        return outputs[0], deep_supervision_loss(self.loss, outputs, labels)

    def _called(self, call: Callable[[Tensor], Any], images: Tensor) -> Any:
        try:
            return call(images)
        except RuntimeError as error:
            if self.blueprint.network is None or "expected" not in str(error).lower():
                raise
            raise TrainingError(
                f"your network does not take images of {tuple(images.shape)}: {error} It gets a spec that says what "
                "comes in: spec.in_channels."
            ) from error

    def _require_logits(self, logits: Any, images: Tensor) -> None:
        expected = (len(images), self.outputs, *images.shape[2:])
        found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        if found != expected:
            raise TrainingError(
                f"the network returned {found} for images of {tuple(images.shape)}; it must return "
                f"logits of {expected}: one channel an output, on the same grid. A network of your own gets a "
                "spec that says how many: spec.classes."
            )

    @contextlib.contextmanager
    def at_full_resolution(self) -> Iterator[nn.Module]:
        """The network to predict with, at rest: one output, no dropout."""
        self.averaged.eval()
        if isinstance(self.averaged, UNet):
            self.averaged.deep_supervision = False
        yield self.averaged

    # to a checkpoint and back

    @property
    def _modules(self) -> dict[str, nn.Module]:
        return {"network": self.network, "averaged": self.averaged}

    def tensors(self) -> dict[str, Tensor]:
        """A copy, in main memory, of everything that `restore` needs."""
        states = {name: module.state_dict() for name, module in self._modules.items()}
        kept = as_cpu({f"{name}/{k}": tensor for name, state in states.items() for k, tensor in state.items()})
        for index, values in self.optimizer.state_dict()["state"].items():
            moments = {f"optimizer/{index}/{name}": v for name, v in values.items() if isinstance(v, Tensor)}
            kept |= as_cpu(moments)
        return kept

    def numbers(self) -> dict[str, Any]:
        """What the optimizer and the loss scale keep beside tensors."""
        state = self.optimizer.state_dict()["state"]
        plain = {
            str(index): {n: v for n, v in values.items() if v is not None and not isinstance(v, Tensor)}
            for index, values in state.items()
        }
        return {"optimizer": plain, "scaler": dict(self.scaler.state_dict())}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put everything back where it was."""
        for name, module in self._modules.items():
            module.load_state_dict(checkpoint.below(name))
        self._restore_optimizer(checkpoint.below("optimizer"), checkpoint.numbers.get("optimizer", {}))
        self.overflows = 0
        self.scaler = self._new_scaler()  # one that was interrupted between scaling and stepping is stuck
        if self.scaler.is_enabled() and checkpoint.numbers.get("scaler"):
            self.scaler.load_state_dict(dict(checkpoint.numbers["scaler"]))

    def _restore_optimizer(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        state: dict[int, dict[str, Any]] = {int(i): dict(values) for i, values in numbers.items()}
        weights = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, tensor in tensors.items():
            index, _, field = name.partition("/")
            like = weights[int(index)]
            laid = torch.empty_like(like, device="cpu").copy_(tensor) if tensor.shape == like.shape else tensor
            state.setdefault(int(index), {})[field] = laid  # moments in the memory format of their weights
        self.optimizer.load_state_dict({"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]})


def _required(network: Any, dimensions: int) -> nn.Module:
    """The network, if it is one that can learn from patches of so many dimensions."""
    weights = dict(network.named_parameters()) if isinstance(network, nn.Module) else {}
    if not weights:
        what = "a network without weights" if isinstance(network, nn.Module) else f"a {type(network).__name__}"
        raise TrainingError(
            f"the blueprint's network made {what}; it must return a torch.nn.Module with weights, such as "
            "lambda spec: MyNetwork(spec.in_channels, spec.classes)."
        )
    other = [n for n, weight in weights.items() if weight.ndim in (4, 5) and weight.ndim != dimensions + 2]
    if other:
        raise TrainingError(
            f"the network's weight {other[0]} is of {weights[other[0]].ndim - 2}D convolutions, and the patches have "
            f"{dimensions} dimensions. A network of your own gets a spec that says how many: spec.dimensions."
        )
    return cast(nn.Module, network)


def make_optimizer(network: nn.Module, blueprint: Blueprint) -> torch.optim.Optimizer:
    """Nesterov SGD or AdamW over all weights."""
    weights, rate, decay = network.parameters(), blueprint.learning_rate, blueprint.weight_decay
    if blueprint.optimizer == "sgd":
        return torch.optim.SGD(
            weights, rate, momentum=blueprint.momentum, weight_decay=decay, nesterov=blueprint.momentum > 0
        )
    return torch.optim.AdamW(weights, rate, betas=(float(blueprint.momentum), 0.999), weight_decay=decay)
