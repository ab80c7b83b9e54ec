"""Displays of training: the curves with an aid to reading them, the model, and the blueprint it follows."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.data.labels import Labels
from autoseg.display import render
from autoseg.display.answers import forecast_parts
from autoseg.display.charts import Line, curves
from autoseg.display.colours import ACCENT, INK, bar, colour_of, colour_of_region, swatch
from autoseg.display.decisions import decision_table, kinds_in_words
from autoseg.display.html import Html, beside, card, chip, facts, fold, join, section, table, tag, text
from autoseg.display.model_card import card_table
from autoseg.display.plan import configuration_details
from autoseg.display.training_parts import example_row, sampled_table, transfer_parts
from autoseg.display.words import count, duration, number, score, share, times, value_of
from autoseg.training.blueprint import Blueprint
from autoseg.training.history import EpochRecord, History
from autoseg.training.loop import Training
from autoseg.training.model import TrainedModel, network_spec
from autoseg.training.reading import LINES, read_history
from autoseg.training.session import Session

KEYS = 12  # labels in the legend of the curves
ROWS = 60  # epochs in the table; of more, every second, third ... is shown
STEPS = {
    "reading": "reading the cases",
    "patches": "loading patches",
    "forward": "network, forwards",
    "backward": "network, backwards",
    "update": "changing the weights",
    "validation": "validation on patches",
    "whole cases": "validation on whole cases",
}


@render.register
def show_session(session: Session) -> str:
    """What to train in the time there is, what it will cost, and what is given up."""
    lost = section("Given up", *(text(what) for what in session.given_up)) if session.given_up else None
    blueprint = session.blueprint
    essence = {"blueprint": blueprint.name, "length": _goal(blueprint).removeprefix("of ")}
    if blueprint.epochs and session.forecast.epoch_seconds:
        essence["all epochs"] = duration(blueprint.epochs * session.forecast.epoch_seconds)
    next_ = text("Pass on ", tag("code", "session.plan"), " and ", tag("code", "session.blueprint"), ".")
    return card("Session", session.configuration, facts(essence), *forecast_parts(session.forecast), lost, next_)


@render.register
def show_history(history: History) -> str:
    """The curves of a training, and how to read them."""
    last = history.epochs[-1] if history.epochs else None
    note = f"{duration(last.seconds)} of training" if last else None
    return card("History", count(len(history), "epoch"), *history_parts(history, None), note=note)


def history_parts(history: History, labels: Labels | None) -> list[Html]:
    """Numbers, curves, how to read them, and the table behind a fold."""
    if not history.epochs:
        return [text("No epoch is finished yet.")]
    last, best = history.epochs[-1], history.best
    essence = {
        "pseudo Dice": score(last.mean_pseudo_dice),
        "Dice of whole cases": score(history.validated[-1].mean_case_dice) if history.validated else "–",
        "best pseudo Dice": f"{score(best.mean_pseudo_dice)} in epoch {best.number}" if best else "–",
        "loss": number(last.training_loss),
        "validation loss": number(last.validation_loss),
        "iterations": f"{sum(e.iterations for e in history.epochs):,}",
    }
    return [
        facts(essence),
        charts(history, _colours(history, labels)),
        reading_aid(history),
        fold("Epochs", epoch_table(history), hint=str(len(history)), long=True),
    ]


def _colours(history: History, labels: Labels | None) -> list[str]:
    if labels is None:
        return [colour_of(i + 1) for i in range(len(history.labels))]
    return [colour_of_region(labels, name) for name in history.labels]


def charts(history: History, colours: Sequence[str]) -> Html:
    """Losses, pseudo Dice of each label, and the learning rate, over epochs."""
    x = [e.number for e in history.epochs]
    size, over = (320.0, 170.0), "over epochs"
    loss = curves(
        x,
        [
            Line([e.training_loss for e in history.epochs], ACCENT),
            Line([e.validation_loss for e in history.epochs], INK),
        ],
        size=size,
    )
    each = [
        Line([e.pseudo_dice[i] for e in history.epochs], colour, faded=len(colours) > 4)
        for i, colour in enumerate(colours)
    ]
    mean = Line([e.mean_pseudo_dice for e in history.epochs], INK, dashed=True)
    measured = history.validated
    whole = Line([e.mean_case_dice for e in measured], INK, x=[e.number for e in measured])
    dice = curves(x, [*each, mean, *([whole] if measured else [])], size=size, y_span=(0.0, 1.0))
    rate = curves(x, [Line([e.learning_rate for e in history.epochs], INK)], size=(320.0, 84.0))
    keys = [(swatch(c), n) for c, n in zip(colours, history.labels, strict=True)][:KEYS]
    keys += [(Html(), f"and {len(colours) - KEYS} more")] if len(colours) > KEYS else []
    keys += [(swatch(INK), "mean (dashed)"), *([(swatch(INK), "whole cases, mean (solid)")] if measured else [])]
    losses = [(swatch(ACCENT), "training"), (swatch(INK), "validation patches")]
    cases = ", and of whole cases," if measured else ""
    return join(
        beside(
            section("Loss", loss, _keys(losses), hint=over),
            section("Dice", dice, _keys(keys), hint=f"of validation patches{cases} {over}"),
        ),
        beside(section("Learning rate", rate, hint=over), section("Where the time went", timings(history.epochs))),
    )


def _keys(pairs: Sequence[tuple[Html, str]]) -> Html:
    return tag(
        "p", join(*(tag("span", s, " ", name, class_="as-key") for s, name in pairs), by=" "), class_="as-legend"
    )


def reading_aid(history: History) -> Html:
    """What is normal now, what is unusual, and behind a fold what each line is."""
    lines = fold("What each line is", *(text(tag("b", name), ": ", said) for name, said in LINES.items()))
    return join(section("How to read it", text(" ".join(read_history(history)))), lines)


def timings(epochs: Sequence[EpochRecord]) -> Html:
    """Seconds spent on each part of an epoch, over all epochs."""
    total: dict[str, float] = {}
    for epoch in epochs:
        for name, seconds in epoch.timings.items():
            total[name] = total.get(name, 0.0) + seconds
    whole = sum(total.values()) or 1.0
    rows = [
        (STEPS.get(name, name), duration(s), bar(s / whole, share(s / whole), width=50)) for name, s in total.items()
    ]
    return table(("part", "time", "share"), rows, numbers=(1,))


def epoch_table(history: History) -> Html:
    """One row an epoch, thinned out where there are many."""
    step = -(-len(history) // ROWS)
    shown = history.epochs[::-1][::step]
    rows = [
        (
            e.number,
            duration(e.seconds),
            number(e.training_loss),
            number(e.validation_loss),
            number(e.learning_rate),
            score(e.mean_pseudo_dice),
        )
        for e in shown
    ]
    head = ("epoch", "time", "loss", "validation loss", "learning rate", "pseudo Dice")
    thinned = text(f"every {step} epochs; history.table() has all of them") if step > 1 else None
    return join(table(head, rows, numbers=tuple(range(6))), thinned)


@render.register
def show_training(training: Training) -> str:
    """How far the training is, its curves, an example, what it saw, and the blueprint it follows."""
    return training_card(training, training_body(training))


def training_card(training: Training, body: Html) -> Html:
    """The card around a body, with a head that tells how far it is: cheap enough to change every second."""
    configuration = training.configuration
    return card(
        "Training",
        f"{configuration.dataset_name} · {configuration.name} · fold {training.fold}",
        tag("p", bar(training.progress, f"{share(training.progress)} {_goal(training.blueprint)}", width=400)),
        text(" · ".join(_pace(training))),
        None if training.stopped is None else tag("p", chip("stopped", kind="error"), " ", training.stopped),
        body,
        note=f"{training.compute.device} in {training.compute.precision}: {training.compute.reason}",
    )


def _pace(training: Training) -> list[str]:
    """Where it is, how long it will take, how fast it is."""
    blueprint, left = training.blueprint, training.seconds_left
    if training.finished:
        told = ["finished"]
    else:
        told = [f"epoch {len(training.epochs)}"]
        told += [f"step {len(training.losses)} of {blueprint.iterations_per_epoch}"] if training.losses else []
        told += [f"{duration(left)} left"] if left is not None else []
    if training.seconds > 0 and training.sampled.patches:
        told.append(f"{number(training.sampled.patches / training.seconds)} patches a second, all included")
    return told


def training_body(training: Training) -> Html:
    """All that changes with the epochs."""
    labels = training.configuration.labels
    example = training.example
    shown = example_row(example, labels, training.configuration.spacing) if example and example.epochs else None
    seen = sampled_table(training.sampled, labels) if training.sampled.patches else None
    transfer = training.transfer
    return join(
        *history_parts(training.history, labels),
        section("One validation patch, again and again", shown, hint=example.case) if example and shown else None,
        fold("What was sampled", seen, hint=count(training.sampled.patches, "patch", "patches")) if seen else None,
        fold("Weights taken over", *transfer_parts(transfer), hint=transfer.source) if transfer else None,
        fold("Blueprint", blueprint_table(training.blueprint), hint=training.blueprint.name),
    )


def _goal(blueprint: Blueprint) -> str:
    if blueprint.epochs:
        return f"of {count(blueprint.epochs, 'epoch')}"
    minutes = blueprint.minutes or 0.0
    return f"of {number(minutes)} {'minute' if minutes == 1 else 'minutes'}"


@render.register
def show_model(model: TrainedModel) -> str:
    """What the model predicts, how it was trained, and with which configuration and blueprint."""
    configuration = model.configuration
    weights = sum(w.numel() for w in model.weights.values())
    network = network_spec(configuration, model.blueprint)
    essence = {
        "weights": f"{number(weights / 1e6)} million",
        "predicts": ", ".join(model.labels.regions),
        "patch": times(configuration.patch_size),
        "features": ", ".join(map(str, network.features)),
    }
    return card(
        "Trained model",
        f"{configuration.dataset_name} · {configuration.name} · fold {model.fold}",
        facts(essence),
        section("Training", *history_parts(model.history, model.labels)),
        fold("Configuration", configuration_details(configuration), hint=configuration.name),
        fold("Blueprint", blueprint_table(model.blueprint), hint=model.blueprint.name),
        fold("Model card", card_table(model.card), hint=model.card.licence.partition(". ")[0]),
    )


@render.register
def show_blueprint(blueprint: Blueprint) -> str:
    """Every fixed parameter with its reason."""
    essence = {
        "length": _goal(blueprint).removeprefix("of "),
        "optimizer": blueprint.optimizer,
        "learning rate": number(blueprint.learning_rate),
        "schedule": value_of(blueprint.schedule),
    }
    return card(
        "Blueprint", blueprint.name, facts(essence), blueprint_table(blueprint), note=kinds_in_words(blueprint.trace)
    )


def blueprint_table(blueprint: Blueprint) -> Html:
    """Each value with its reason: the published one, or why this one differs."""
    return decision_table(blueprint.trace)
