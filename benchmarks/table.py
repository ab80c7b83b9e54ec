"""The rows of the table of results: each benchmark adds its own, `all.py` collects them."""

from __future__ import annotations

import json
import os
from pathlib import Path


def row(what: str, *, autoseg: str, nnunet: str = "", ratio: float | None = None) -> None:
    """Add a line to the table, where one is being made; `ratio` is how many times faster, or larger, autoseg is."""
    if path := os.environ.get("AUTOSEG_RESULTS"):
        with Path(path).open("a") as file:
            file.write(json.dumps({"what": what, "autoseg": autoseg, "nnunet": nnunet, "ratio": ratio}) + "\n")
