"""Fine-tuning: what a new network takes over from a trained one, weight by weight."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from autoseg.core.errors import TrainingError
from autoseg.core.shown import Shown
from autoseg.core.types import Shape, by
from autoseg.training.model import TrainedModel, network_spec

if TYPE_CHECKING:
    import pandas as pd

Outcome = Literal["taken", "other shape", "not there"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """One weight of the new network; `theirs` is the shape it has in the old one, or None."""

    name: str
    shape: Shape
    theirs: Shape | None

    @property
    def outcome(self) -> Outcome:
        """Whether it was taken over, or why not."""
        if self.theirs is None:
            return "not there"
        return "taken" if self.theirs == self.shape else "other shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(Shown):
    """Which weights a training began with. `source` describes the model, `key` changes with its weights."""

    source: str
    key: str
    matches: tuple[Match, ...]

    @property
    def taken(self) -> int:
        """How many weight tensors were taken over."""
        return sum(match.outcome == "taken" for match in self.matches)

    @property
    def left(self) -> tuple[Match, ...]:
        """Those that start fresh."""
        return tuple(match for match in self.matches if match.outcome != "taken")

    def table(self) -> pd.DataFrame:
        """One row a weight."""
        import pandas as pd

        rows = [{"weight": m.name, "shape": m.shape, "there": m.theirs, "outcome": m.outcome} for m in self.matches]
        return pd.DataFrame(rows)

    def __repr__(self) -> str:
        fresh = [f"{m.name} ({m.outcome}: {_x(m.theirs)} there, {_x(m.shape)} here)" for m in self.left]
        few = [*fresh[:2], *([f"and {len(fresh) - 2} more, see .table()"] if len(fresh) > 2 else [])]
        lines = [f"Transfer(from {self.source}: {self.taken} of {len(self.matches)} weights taken over)"]
        return "\n".join([*lines, *(f"  fresh: {line}" for line in few)])


def _x(shape: Shape | None) -> str:
    return "nothing" if shape is None else by(shape) or "1"


def take_over(network: nn.Module, model: TrainedModel) -> Transfer:
    """Copy every weight that has the same name and shape in the trained model; the others stay fresh.

    Another number of labels leaves the heads fresh, one of channels the first convolution. Raises `TrainingError` where
    no kernel fits.
    """
    here, there = network.state_dict(), model.weights
    matches = tuple(
        Match(name=n, shape=tuple(t.shape), theirs=tuple(there[n].shape) if n in there else None)
        for n, t in here.items()
    )
    source = f"{model.configuration.dataset_name}, {model.configuration.name}, fold {model.fold}"
    transfer = Transfer(source=source, key=weights_key(there), matches=matches)
    if not any(match.outcome == "taken" and len(match.shape) > 1 for match in matches):  # equal biases are chance
        width = network_spec(model.configuration, model.blueprint).features[0]
        raise TrainingError(
            f"no weight of the model ({source}) has the name and shape of one in this network, such as "
            f"{matches[0].name} of {_x(matches[0].shape)}. Train with the model's own plan and blueprint, for example "
            f"blueprint.changed(base_features={width}), or without start_from."
        )
    with torch.no_grad():
        for match in matches:
            if match.outcome == "taken":
                here[match.name].copy_(there[match.name])
    return transfer


def weights_key(weights: Mapping[str, Tensor]) -> str:
    """Twelve characters that change with any weight."""
    content = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return content.hexdigest()[:12]
