"""Markup, escaped by construction, and the few parts every display is built of: card, facts, table, fold, gallery.

`tag` escapes every string that is not `Html`, so a name out of somebody's file can never become markup. Every part
reads well without its style, because GitHub's preview drops it: facts, galleries and legends are plain tables below.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from html import escape
from importlib.resources import files

VOID = frozenset({"img", "br", "hr", "meta"})
LONG = 28  # letters of a word that a column of a table has room for


class Html(str):
    """Finished markup. Any other string is escaped when it is put into a tag."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """One element; children that are not `Html` are escaped, attributes that are None are left out.

    >>> tag("td", "a < b", class_="as-n")
    '<td class="as-n">a &lt; b</td>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{written}>" if name in VOID else f"<{name}{written}>{join(*children)}</{name}>")


def join(*parts: object, by: str = "") -> Html:
    """Parts one after the other, escaped where they are not `Html`; None is left out.

    >>> join("a", tag("b", "&"), by=", ")
    'a, <b>&amp;</b>'
    """
    written = (part if isinstance(part, Html) else escape(str(part)) for part in parts if part is not None)
    return Html(escape(by).join(written))


@cache
def style() -> Html:
    """The style sheet, in a tag; it only speaks of what is inside ``.autoseg``."""
    sheet = files("autoseg.display").joinpath("style.css").read_text(encoding="utf-8")
    short = re.sub(r"\s+", " ", re.sub(r"/\*.*?\*/", "", sheet, flags=re.DOTALL))
    return Html(f"<style>{short.strip()}</style>")


def card(kind: str, name: str, *body: object, note: str | None = None) -> Html:
    """What a notebook shows of one object: what it is, its name, one line about it, and its parts."""
    return join(style(), tag("div", inner_card(kind, name, *body, note=note), class_="autoseg"))


def inner_card(kind: str, name: str, *body: object, note: str | None = None) -> Html:
    """A card inside another one."""
    title = tag("p", tag("small", kind, class_="as-kind"), " ", tag("b", name, class_="as-name"), class_="as-title")
    about = tag("p", note, class_="as-note") if note else None
    return tag("div", tag("div", title, about, class_="as-head"), *body, class_="as-card")


def facts(values: Mapping[str, object]) -> Html:
    """The numbers that tell the essence, each under its name."""
    cells = [
        tag("td", tag("small", name, class_="as-label"), tag("br"), tag("b", value)) for name, value in values.items()
    ]
    return tag("table", tag("tbody", tag("tr", *cells)), class_="as-facts")


def table(head: Sequence[object], rows: Iterable[Sequence[object]], *, numbers: Sequence[int] = ()) -> Html:
    """A table; the columns whose positions are in `numbers` are set to the right."""

    def line(cell: str, values: Sequence[object]) -> Html:
        classes = ("as-n" if column in numbers else _cell_class(v) for column, v in enumerate(values))
        return tag("tr", *(tag(cell, v, class_=c) for v, c in zip(values, classes, strict=True)))

    header = tag("thead", line("th", list(map(_title, head)))) if any(head) else None
    body = tag("tbody", *(line("td", row) for row in rows))
    return tag("div", tag("table", header, body, class_="as-table"), class_="as-wide")


def folded_table(
    head: Sequence[object], rows: Sequence[Sequence[object]], *, most: int, numbers: Sequence[int], more: str
) -> Html:
    """A table of which the rows beyond `most` fold."""
    shown = table(head, rows[:most], numbers=numbers)
    if len(rows) <= most:
        return shown
    return tag("div", shown, fold(more, table(head, rows[most:], numbers=numbers), hint=len(rows) - most))


def _title(title: object) -> object:
    """The head of a column, in several lines where it is long."""
    words = re.sub("<[^>]*>", "", title) if isinstance(title, Html) else str(title)
    return tag("span", title, class_="as-lines") if len(words) > 2 * LONG else title


def _cell_class(value: object) -> str | None:
    """A cell with a word so long that the page would not hold it: only that may break anywhere."""
    words = re.sub("<[^>]*>", " ", value) if isinstance(value, Html) else str(value)
    return "as-long" if max(map(len, words.split()), default=0) > LONG else None


def fold(title: object, *body: object, hint: object = None, long: bool = False) -> Html:
    """A part that folds; `hint` stands beside its title. Print opens it unless it is a `long` list."""
    line = tag("summary", tag("b", title), " ", tag("small", hint) if hint is not None else None)
    content = tag("div", *body, class_="as-body")
    return tag("details", line, content, class_="as-fold as-long" if long else "as-fold")


def section(title: object, *body: object, hint: object = None) -> Html:
    """A part that is always open."""
    line = tag("p", tag("b", title), " ", tag("small", hint) if hint is not None else None, class_="as-section")
    return tag("div", line, *(part for part in body if part is not None), class_="as-part")


def gallery(*columns: Sequence[tuple[Html, object]]) -> Html:
    """Columns of pictures with captions, side by side, wrapping where the page is narrow."""
    cells = (
        tag("td", *(tag("div", picture, tag("br"), tag("small", caption)) for picture, caption in column))
        for column in columns
    )
    return tag("table", tag("tbody", tag("tr", *cells)), class_="as-gallery")


def beside(*parts: Html) -> Html:
    """Parts side by side where there is room, below each other where there is not."""
    return tag("div", *(tag("div", part) for part in parts), class_="as-beside")


def text(*parts: object) -> Html:
    """A paragraph of quiet text."""
    return tag("p", *parts, class_="as-text")


def chip(word: str, *, kind: str | None = None) -> Html:
    """A word in a coloured frame."""
    return tag("span", word, class_=f"as-chip as-{kind or word}")


def names(words: Sequence[str], *, most: int = 60, more: str = "more") -> Html:
    """A flow of names; beyond `most` only their number is told."""
    shown = [tag("code", word) for word in words[:most]]
    rest = [f"and {len(words) - most:,} {more}"] if len(words) > most else []
    return tag("p", join(*shown, *rest, by=" "), class_="as-names")
