"""Draws the README's two pictures from the displays themselves: a case and a decision, and every stage.

python docs/pictures.py       # needs Debian's chromium; two minutes
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

import autoseg
from autoseg.display import render

HERE = Path(__file__).resolve().parent
WIDTH, SHOWN, SCALE, COLUMNS = 700, 900, 0.5, 4  # page pixels of a card, what is shown of its height, its size, a row
PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff; font-family: sans-serif; display: grid; gap: 10px; padding: 10px;
  grid-template-columns: repeat({columns}, {width}px); }}
figure {{ margin: 0; height: {height}px; overflow: hidden; }}
figure > div {{ width: {full}px; transform: scale({scale}); transform-origin: 0 0; }}
figcaption {{ font-size: 15px; font-weight: 600; padding: 4px 2px 8px; }}
</style>{figures}"""
PAIR = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #fff; font-family: sans-serif; display: grid; gap: 12px; padding: 12px;
  grid-template-columns: 450px 730px; align-items: start; }}
</style>{figures}"""


def main() -> None:
    draw_pair(HERE.parent / "notebooks/look_inside.png")
    draw_stages(HERE / "stages.png")


def draw_pair(target: Path) -> None:
    """A case with its labels, and why a patch has its size where memory is short."""
    dataset = autoseg.sample_dataset()
    plan = autoseg.make_plan(autoseg.extract_fingerprint(dataset, show_progress=False), autoseg.Budget(memory_gb=0.2))
    shown = (dataset[0], plan.why("3d_fullres/patch_size"))
    figures = "".join(f"<div>{render(one)}</div>" for one in shown)
    photograph(PAIR.format(figures=figures).replace(f"{HERE.parent}/", ""), (1216, 904), target)


def draw_stages(target: Path) -> None:
    """An object of each stage, numbered."""
    figures = "".join(
        f"<figure><figcaption>{number}. {name}</figcaption><div>{render(shown)}</div></figure>"
        for number, (name, shown) in enumerate(stages().items(), start=1)
    )
    width, height = round(WIDTH * SCALE), round(SHOWN * SCALE)
    page = PAGE.format(columns=COLUMNS, width=width, height=height, full=WIDTH, scale=SCALE, figures=figures)
    size = (COLUMNS * (width + 10) + 10, 2 * (height + 10) + 10)
    photograph(page.replace(f"{HERE.parent}/", ""), size, target)  # not where on this computer it lies


def stages() -> dict[str, object]:
    """An object of each stage, of the dataset that comes with autoseg."""
    dataset = autoseg.sample_dataset()
    fingerprint = autoseg.extract_fingerprint(dataset, show_progress=False)
    plan = autoseg.make_plan(fingerprint)
    prepared = autoseg.preprocess(dataset, plan["2d"], show_progress=False)
    quick = autoseg.Blueprint.quick(minutes=1, batch_size=24)
    training = autoseg.train(prepared, blueprint=quick, show_progress=False)
    predictions = autoseg.predict(training.model, dataset.fold(0).validation, show_progress=False)
    return {
        "The dataset": dataset,
        "Its fingerprint": fingerprint,
        "The plan": plan,
        "Why": plan.why("3d_fullres/patch_size"),
        "A case through every stage": autoseg.microscope(dataset[0], plan["3d_fullres"]),
        "Training": training,
        "A prediction": predictions[0],
        "What it is worth": autoseg.evaluate(predictions, dataset),
    }


def photograph(page: str, size: tuple[int, int], target: Path) -> None:
    """A page as a picture of few colours."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium: install Debian's package of that name")
    with tempfile.TemporaryDirectory() as folder:
        source, taken = Path(folder) / "page.html", Path(folder) / "page.png"
        source.write_text(page)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1.5"]
        window = f"--window-size={size[0]},{size[1]}"
        subprocess.run(
            [browser, *flags, window, f"--screenshot={taken}", source.as_uri()], check=True, capture_output=True
        )
        Image.open(taken).convert("P", palette=Image.Palette.ADAPTIVE, colors=160).save(target, optimize=True)


if __name__ == "__main__":
    main()
