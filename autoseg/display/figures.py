"""Pictures for a page: drawn with matplotlib's objects alone, so that the user's pyplot never notices.

No pyplot, no backend, no figure that stays open; the user's style is set aside while one is drawn and then put back.
No text out of somebody's data is drawn into a picture: names stand beside it as HTML, where any script is readable.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from autoseg.display.html import Html, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    Paint = Callable[[Figure], None]

PIXELS_PER_INCH = 100  # figures are laid out in pixels of the page
BLURRED = 0.6  # device pixels a page pixel below which a picture is not worth its place
SHARP = 2.0  # charts: for screens with two device pixels a pixel


def picture(
    paint: Paint, size: tuple[float, float], *, alt: str, sharp: float = SHARP, most: int | None = None
) -> Html:
    """Draw with `paint` on a figure of `size` page pixels and give it as an image tag.

    A chart has a transparent ground. A picture that fills its frame says with `most` how many bytes it may take: one
    that needs more, as noise does, is drawn again with fewer pixels.
    """
    png = _draw(paint, size, sharp=sharp, opaque=most is not None)
    while most is not None and len(png) > most and sharp > BLURRED:
        sharp = max(BLURRED, 0.95 * sharp * (most / len(png)) ** 0.5)
        png = _draw(paint, size, sharp=sharp, opaque=True)
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    width, height = (round(s) for s in size)
    return tag("img", src=source, width=width, height=height, alt=alt, class_="as-picture" if most else "as-chart")


def _draw(paint: Paint, size: tuple[float, float], *, sharp: float, opaque: bool) -> bytes:
    import matplotlib.style
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from PIL import Image

    with matplotlib.style.context("default"):
        inches = (size[0] / PIXELS_PER_INCH, size[1] / PIXELS_PER_INCH)
        figure = Figure(figsize=inches, dpi=PIXELS_PER_INCH * sharp, facecolor="none")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
        size_in_pixels = canvas.get_width_height()
        pixels = Image.frombuffer("RGBA", size_in_pixels, bytes(canvas.buffer_rgba()), "raw", "RGBA", 0, 1)
        if opaque:
            reduced = pixels.convert("RGB").quantize(96, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        else:
            reduced = pixels.quantize(64, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    file = io.BytesIO()
    reduced.save(file, "PNG", optimize=True)
    return file.getvalue()
