"""Displays of models that come from elsewhere or go there: one that nnU-Net trained, and an export with its check."""

from __future__ import annotations

from autoseg.display import render
from autoseg.display.html import card, facts, fold, section, table, tag, text
from autoseg.display.model_card import card_table
from autoseg.display.plan import configuration_details
from autoseg.display.training import history_parts
from autoseg.display.words import count, number
from autoseg.interop.nnunet_model import NnunetModel
from autoseg.interop.portable import Export


@render.register
def show_nnunet_model(model: NnunetModel) -> str:
    """What was opened: folds with their training, the configuration, and where the plan departs from the rules."""
    folds = ", ".join(str(m.fold) for m in model)
    essence = {"trained by": model.trainer, "folds": folds, "predicts": ", ".join(model.configuration.labels.regions)}
    trainings = [
        fold(f"Fold {m.fold}", *history_parts(m.history, m.labels), hint=count(len(m.history), "epoch")) for m in model
    ]
    explained = text("No dataset_fingerprint.json lies beside the plan, so its values cannot be explained.")
    if model.fingerprint is not None:
        departures = model.explain().departures
        rows = [(tag("code", key.key), str(key.value), key.origin, str(key.rules_give)) for key in departures]
        told = text("Every key of its plan is as nnU-Net's rules give.")
        explained = table(("key", "value", "where from", "the rules give"), rows) if rows else told
    return card(
        "nnU-Net model",
        f"{model.source} · {model.configuration.name}",
        facts(essence),
        section("Plan", explained),
        fold("Configuration", configuration_details(model.configuration), hint=model.configuration.name),
        *trainings,
        fold("Model card", card_table(model[0].card)),
        note="autoseg.predict(model, cases) averages the folds",
    )


@render.register
def show_export(export: Export) -> str:
    """Where the files are, and how the exported model agrees with autoseg."""
    essence = {
        "checked on": export.checked_on,
        "equal voxels": f"{export.voxels:.4%}",
        "largest difference of logits": f"{number(export.logits)} of their range",
    }
    return card("Export", f"as {export.kind}", facts(essence), text(f"In {export.folder}: {', '.join(export.files)}."))
