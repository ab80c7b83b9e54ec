"""Writes whose repository the README's and the notebooks' badges open, and Colab's first cells install.

python docs/address.py OWNER       # github.com/OWNER/autoseg
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLACES = r"(github\.com/|colab\.research\.google\.com/github/|mybinder\.org/v2/gh/)[\w-]+(?=/autoseg\b)"


def pages(root: Path) -> list[Path]:
    """All files that hold the address."""
    return [root / "README.md", *sorted((root / "notebooks").glob("*.ipynb"))]


def main(owner: str, *, root: Path = ROOT) -> None:
    """Write the owner into every page."""
    if not re.fullmatch(r"[A-Za-z0-9-]+", owner):
        raise SystemExit(f"{owner!r} is no name of a GitHub user or organization.")
    for page in pages(root):
        page.write_text(re.sub(PLACES, rf"\g<1>{owner}", page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(sys.argv[1])
