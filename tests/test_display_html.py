"""Markup is escaped by construction and reads without its style."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autoseg.core.shown import Shown
from autoseg.data.labels import Labels
from autoseg.display import render
from autoseg.display.html import Html, card, facts, fold, join, names, style, table, tag
from autoseg.display.words import MINUS, count, duration, number, share, size, times, value_of

EVIL = "<img src=x onerror=alert(1)>"


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words = []

    def handle_data(self, data):
        self.words.append(data)


def text_of(html: str) -> str:
    parser = Text()
    parser.feed(html)
    return "".join(parser.words)


@given(st.text())
def test_any_string_comes_out_as_text(string):
    assert text_of(tag("p", string)) == string


@given(st.text())
def test_attributes_cannot_be_left(string):
    assert tag("p", title=string).count('"') == 2


def test_finished_markup_is_not_escaped_again():
    assert join(tag("b", "a&b"), "c&d", None) == "<b>a&amp;b</b>c&amp;d"
    assert isinstance(join("a"), Html)


@pytest.mark.parametrize(
    "part",
    [
        card("Kind", EVIL, note=EVIL),
        facts({EVIL: EVIL}),
        table((EVIL,), [(EVIL,)]),
        fold(EVIL, EVIL, hint=EVIL),
        names([EVIL, "b", "c"], most=2, more=EVIL),
    ],
)
def test_every_part_escapes_what_it_is_given(part):
    assert EVIL not in part.replace(style(), "")
    assert EVIL in text_of(part)


def test_the_style_sheet_touches_nothing_but_our_own_cards():
    rules = re.findall(r"([^{}]+)\{[^}]*\}", style().removeprefix("<style>").removesuffix("</style>"))
    selectors = [s.strip() for rule in rules for s in re.sub(r"\([^)]*\)", "()", rule).split(",")]
    assert len(selectors) > 30
    assert all(s.startswith(".autoseg") for s in selectors), [s for s in selectors if not s.startswith(".autoseg")]
    assert "url(" not in style() and "@import" not in style()


def test_many_names_are_counted_rather_than_listed():
    shown = text_of(names([f"case_{i}" for i in range(100)], most=10))
    assert "case_9" in shown and "case_10" not in shown and "and 90 more" in shown


def test_what_has_no_display_says_so():
    with pytest.raises(TypeError, match="a dict has no display"):
        render({})


def test_a_display_that_fails_leaves_the_text_and_one_line_about_it():
    class Broken(Shown):
        def __repr__(self):
            return f"Broken({EVIL})"

    html = Broken()._repr_html_()
    assert "Broken(" in text_of(html) and EVIL in text_of(html) and EVIL not in html
    assert "(no picture: TypeError: a Broken has no display)" in text_of(html)


def test_a_tuple_shows_each_of_its_objects():
    both = render((Labels({"background": 0, "liver": 1}), Labels({"background": 0, "spleen": 1})))
    assert "liver" in both and "spleen" in both


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e15, max_value=1e15))
def test_numbers_keep_three_digits(value):
    read = float(number(value).replace(",", "").replace(MINUS, "-"))
    assert read == pytest.approx(value, rel=6e-3)


@given(st.integers(0, 10**15))
def test_a_size_is_short_and_right_to_a_tenth(byte_count):
    amount, unit = size(byte_count).split()
    factor = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}[unit]
    assert float(amount.replace(",", "")) * factor == pytest.approx(byte_count, rel=0.06)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (share(0.00001), "<0.1%"),
        (share(0.333), "33%"),
        (share(0.0333), "3.3%"),
        (duration(59.9), "59.9 s"),
        (duration(3600), "1 h"),
        (count(1, "class", "classes"), "1 class"),
        (times((1, 2.5)), "1\u00a0×\u00a02.5"),
        (value_of(True), "yes"),
        (value_of((1.0, 0.5), "2d/spacing"), "1\u00a0×\u00a00.5 mm"),
        (value_of(tuple(range(64))), "64 values"),
        (value_of("x" * 1000), "x" * 299 + "…"),
        (value_of(len), "len"),
    ],
)
def test_values_read_as_a_person_writes_them(written, expected):
    assert written == expected


def test_only_a_word_too_long_for_its_column_may_break_anywhere():
    html = table(("case", "dice"), [("case_001", "0.8"), ("x" * 60, "0.7"), (Html(f"<code>{'y' * 60}</code>"), "0.6")])
    assert html.count("as-long") == 2 and 'class="as-long">x' in html
    assert "as-long" not in table(("case",), [("many words of a usual length, as sentences have them",)])


def test_a_long_head_of_a_column_has_several_lines():
    html = table(("case", "a label of many words, " * 3), [("case_001", "0.8")])
    assert html.count("as-lines") == 1


def test_a_first_column_with_a_long_name_keeps_its_width():
    rules = style().partition("td:first-child { min-width")[2]
    assert "td.as-long { overflow-wrap: anywhere; min-width: 170px; }" in rules
