"""Training made visible while it runs: one display that changes in place in a notebook, lines in a terminal."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from autoseg.core.shown import ask_display
from autoseg.training.history import EpochRecord

if TYPE_CHECKING:
    from autoseg.training.loop import Training

EVERY = 1.0  # seconds between two changes of the display
SHARE = 0.03  # of the time may go into drawing curves: a slow browser or a short epoch must not slow training


@contextlib.contextmanager
def progress_shown(training: Training, *, show: bool) -> Iterator[Callable[[EpochRecord], None]]:
    """Show the training until the block ends; what is yielded wants to be told of every epoch."""
    shell = notebook() if show else None
    if shell is None:
        with progress_bar(training, show_progress=show, lines=True) as tell:
            yield tell
        return
    view = LiveView(training, shell)
    training.listeners.append(view.step)
    try:
        yield view.epoch
    finally:
        training.listeners.remove(view.step)
        view.close()


def notebook() -> Any:
    """The shell of a notebook's kernel, or None in scripts, terminals and tests."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    return shell if getattr(shell, "kernel", None) is not None else None


class LiveView:
    """The training's own display in a cell. The head changes every second, the curves with the epochs."""

    def __init__(self, training: Training, shell: Any) -> None:
        from IPython.display import display

        self.training, self.shell = training, shell
        self.body, self.cost, self.drawn, self.changed = "", 0.0, 0.0, time.monotonic()
        self._draw()
        self.handle = display(self._bundle(), raw=True, display_id=True)

    def step(self) -> None:
        """A step is done: show how far it is, at most once a second."""
        if time.monotonic() - self.changed > EVERY:
            self._update()

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done: draw the curves again, if drawing did not just take long."""
        if time.monotonic() - self.drawn < self.cost / SHARE:
            self.step()
            return
        self._draw()
        self._update()

    def close(self) -> None:
        """Show how it ended; the same cell need not show it a second time."""
        self._draw()
        self._update()
        self.training.shown_in = (self.shell.execution_count, len(self.training.epochs))

    def _draw(self) -> None:
        started = time.monotonic()
        self.body = ask_display("training", "training_body", self.training)
        self.drawn = time.monotonic()
        self.cost = self.drawn - started

    def _update(self) -> None:
        self.changed = time.monotonic()
        self.handle.update(self._bundle(), raw=True)

    def _bundle(self) -> dict[str, str]:
        html = ask_display("training", "training_card", self.training, self.body)
        return {"text/html": html, "text/plain": repr(self.training)}


def show_once(training: Training) -> None:
    """Display a training, unless the live display of the same cell shows it as it is."""
    from IPython.display import display

    shell = notebook()
    if shell is not None and training.shown_in == (shell.execution_count, len(training.epochs)):
        return
    display({"text/html": training._repr_html_(), "text/plain": repr(training)}, raw=True)


@contextlib.contextmanager
def progress_bar(
    training: Training, *, show_progress: bool, lines: bool = False
) -> Iterator[Callable[[EpochRecord], None]]:
    """A bar in a terminal that counts steps, or seconds where the blueprint does; with `lines`, one an epoch above."""
    from tqdm import tqdm

    blueprint = training.blueprint
    steps = blueprint.epochs * blueprint.iterations_per_epoch if blueprint.epochs else None
    total = steps or round(60 * (blueprint.minutes or 0))
    bar: Any = tqdm(
        total=total,
        desc=f"train {training.configuration.name}",
        unit="step" if steps else "s",
        bar_format=None if steps else "{l_bar}{bar}| {n_fmt}/{total_fmt} s [{elapsed}<{remaining}{postfix}]",
        disable=not show_progress,
    )

    def move() -> None:
        bar.update((training.iterations if steps else min(round(training.seconds), total)) - bar.n)

    def show(record: EpochRecord) -> None:
        if lines and show_progress:
            bar.write(repr(record), file=sys.stderr)
        bar.set_postfix_str(f"loss {record.training_loss:.3f}, pseudo Dice {record.mean_pseudo_dice:.3f}")
        move()

    training.listeners.append(move)
    try:
        if lines and show_progress and training.transfer is not None:
            bar.write(repr(training.transfer), file=sys.stderr)
        if training.epochs:
            bar.set_postfix_str(f"going on after {len(training.epochs)} epochs")
        yield show
    finally:
        training.listeners.remove(move)
        bar.close()
