"""Display of the model card."""

from __future__ import annotations

from autoseg.display import render
from autoseg.display.html import Html, card, table, tag
from autoseg.training.model_card import ModelCard


@render.register
def show_model_card(model_card: ModelCard) -> str:
    """What whoever receives the model must know."""
    return card("Model card", "of a trained model", card_table(model_card))


def card_table(model_card: ModelCard) -> Html:
    """One row an entry."""
    return table(("about", "says"), [(tag("b", name), said) for name, said in model_card.facts.items()])
