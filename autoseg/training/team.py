"""Several processes that train one model: each differentiates its share of every batch, then all know the mean.

All draw the same batch from the same random numbers and cut their share of it, so that the patches, and which of them
must hold foreground, are those of a single process. Source: nnU-Net's ``--num_gpus``.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, distributed, nn

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that torch knows of; one alone where it knows of none.

    >>> Team(rank=1, size=2).share([0, 1, 2, 3, 4])
    [3, 4]
    """

    rank: int = 0
    size: int = 1

    @classmethod
    def current(cls) -> Team:
        """The team this process has joined."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size())
        return cls()

    @property
    def leads(self) -> bool:
        """Whether this process validates, saves and speaks for all."""
        return self.rank == 0

    def share(self, items: Sequence[T]) -> list[T]:
        """This process's part of a batch, as even as possible; the first have one more."""
        each, more = divmod(len(items), self.size)
        start = self.rank * each + min(self.rank, more)
        return list(items[start : start + each + (self.rank < more)])

    def weight(self, patches: int, device: torch.device) -> float:
        """How much this process's mean over so many patches counts in the mean over the batch."""
        if self.size == 1:
            return 1.0
        return patches / float(self.mean(torch.tensor([float(patches)], device=device)))

    def own(self, random: Generator) -> Generator:
        """Random numbers of this process's own, for augmentation, while those of the team stay together."""
        if self.size == 1:
            return random
        ahead = Generator().set_state(random.get_state())  # drawn from a copy: the batches stay those of one process
        return Generator().manual_seed(int(torch.randint(2**62, (), generator=ahead)) + self.rank)

    def agree(self, value: T | None) -> T:
        """The leader's value; what the others pass does not matter."""
        values: list[Any] = [value]
        if self.size > 1:
            distributed.broadcast_object_list(values, src=0)
        agreed: T = values[0]
        return agreed

    def average_gradients(self, network: nn.Module) -> None:
        """Replace the gradients by the mean over the team."""
        if self.size == 1:
            return
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        flat = self.mean(torch.cat([g.reshape(-1) for g in gradients]))
        parts = torch.split(flat, [g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.reshape(gradient.shape))

    def mean(self, values: Tensor) -> Tensor:
        """The mean over the team, of what nobody differentiates."""
        if self.size > 1:
            distributed.all_reduce(values)
            values = values / self.size
        return values

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader runs the block before the others do, which then find its files."""
        if self.size > 1 and not self.leads:
            distributed.barrier()
        yield
        if self.size > 1 and self.leads:
            distributed.barrier()


def summed(values: Tensor) -> Tensor:
    """The sum over the team of what is differentiated; outside of a training step the values themselves."""
    if not values.requires_grad or Team.current().size == 1:
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """A sum over the team that gradients pass through: each process's values are in the sum of every process."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:  # noqa: ARG004  torch's signature
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004
        return _Sum.forward(ctx, gradient)
