"""Colours: one for each label value, the same in every stage, told apart by the colour-blind too.

Source: Okabe and Ito 2008, 'Color Universal Design'; black is left out, because it cannot be seen on a scan.
"""

from __future__ import annotations

import base64
import struct
import zlib
from functools import cache

from autoseg.data.labels import Labels
from autoseg.display.html import Html, join, tag

OKABE_ITO = ("#e69f00", "#56b4e9", "#009e73", "#cc79a7", "#d55e00", "#f0e442", "#0072b2")
INK = "#7d838c"  # grey that reads on white and on black alike: pictures do not know which theme they are shown in
FAINT = "#8b919a40"
ACCENT = "#3d8fd1"
IGNORED = "#9a9a9a"


def colour_of(value: int, ignore: int | None = None) -> str:
    """The colour of a label value: seven hues, then the same hues lighter, then darker, then again.

    >>> colour_of(1), colour_of(2), colour_of(1) == colour_of(22)
    ('#e69f00', '#56b4e9', True)
    """
    if value == ignore:
        return IGNORED
    turn, hue = divmod((value - 1) % (3 * len(OKABE_ITO)), len(OKABE_ITO))
    towards, amount = ((0, 0.0), (255, 0.5), (0, 0.4))[turn]
    red, green, blue = (round(c + (towards - c) * amount) for c in bytes.fromhex(OKABE_ITO[hue][1:]))
    return f"#{red:02x}{green:02x}{blue:02x}"


def colour_of_region(labels: Labels, name: str) -> str:
    """The colour of what is predicted: of the label's value, or of the value that is written for the region."""
    regions = list(labels.regions)
    values = labels.regions[name]
    if len(values) > 1 and labels.region_order:
        return colour_of(labels.region_order[regions.index(name)])
    return colour_of(values[0])


@cache
def swatch(colour: str, width: int = 10, height: int = 10, *, kind: str = "as-swatch") -> Html:
    """A patch of colour as a picture, so that it stays where style sheets are dropped."""
    row = b"\0" + bytes.fromhex(colour[1:7])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    return tag("img", src=source, width=width, height=height, alt="", class_=kind)


def bar(part: float, word: str, *, colour: str = ACCENT, width: int = 160) -> Html:
    """A fraction as a bar with a word beside it, for a cell of a table."""
    return join(swatch(colour, max(round(part * width), 1), 8, kind="as-bar"), " ", tag("small", word))


def named(value: int, labels: Labels) -> Html:
    """A label's swatch and name; a value that only regions speak of is named by the smallest of them."""
    single = value == labels.ignore or any(values == (value,) for values in labels.regions.values())
    around = () if single else [n for n, values in labels.regions.items() if value in values]
    smallest = min(around, key=lambda n: len(labels.regions[n]), default=None)
    name = labels.name_of(value) if smallest is None else f"{smallest}, value {value}"
    return join(swatch(colour_of(value, labels.ignore)), " ", name)


def legend(labels: Labels, note: str = "", *, most: int = 12) -> Html:
    """Swatch and name of each foreground label, and a quiet note on what is drawn how."""
    values = [v for v in labels.permitted if v != 0]
    told = [f"and {len(values) - most} more"] if len(values) > most else []
    told += [note] if note else []
    shown = [*(named(v, labels) for v in values[:most]), *(tag("small", word) for word in told)]
    return tag("p", join(*(tag("span", s, class_="as-key") for s in shown), by=" "), class_="as-legend")
