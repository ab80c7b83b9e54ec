"""What a check-up found: the worst first, each with its numbers, what to do, and pictures of the worst case."""

from __future__ import annotations

from collections import Counter
from typing import Any

from autoseg.data.checks import Finding, Findings
from autoseg.data.checks.survey import few
from autoseg.display import render
from autoseg.display.html import Html, card, chip, fold, gallery, join, section, table, tag, text
from autoseg.display.slices import Overlay, thumbnail
from autoseg.display.words import count

ROWS = 40  # findings in one card
DRAWN = 4  # of which the worst case is read and drawn
NOTHING = "Every case can be read, image and label map fit together, and nothing else is odd."


@render.register
def show_finding(finding: Finding) -> str:
    """One finding with its pictures."""
    shown = columns(finding)
    return card("Finding", finding.check, table(("", ""), [line(finding)]), gallery(*shown) if shown else None)


@render.register
def show_findings(findings: Findings) -> str:
    """All findings, the worst first, and pictures of the worst of them."""
    if not findings:
        return card("Check-up", "nothing found", text(NOTHING), note=findings.dataset.name)
    tally = Counter(finding.severity for finding in findings)
    drawn = [finding for finding in findings if finding.severity != "note"][:DRAWN]
    shown = [column for finding in drawn for column in columns(finding)]
    left = f"the first {ROWS} of {len(findings)}" if len(findings) > ROWS else findings.dataset.name
    return card(
        "Check-up",
        ", ".join(count(number, severity) for severity, number in tally.items()),
        table(("", ""), [line(finding) for finding in findings[:ROWS]]),
        section("The worst cases", gallery(*shown)) if shown else None,
        how_to_mend(findings),
        note=left,
    )


def line(finding: Finding) -> tuple[Html, Html]:
    """Severity; then what is wrong, what to do, and what the fix would do."""
    fix = None
    if finding.fix:
        safe = "safe" if finding.fix.safe else "your decision"
        fix = join(tag("br"), tag("small", "Fix (", safe, "): ", finding.fix.text, "."))
    return chip(finding.severity), join(
        tag("b", concerned(finding)),
        " ",
        tag("small", finding.check),
        tag("br"),
        finding.message,
        " ",
        finding.advice,
        fix,
    )


def concerned(finding: Finding) -> str:
    """The cases, or the whole dataset."""
    return few(finding.cases) if finding.cases else "the dataset"


def how_to_mend(findings: Findings) -> Html | None:
    """The lines that apply the fixes."""
    chosen = list(dict.fromkeys(f.check for f in findings if f.fix and not f.fix.safe))
    safe = [f for f in findings if f.fix and f.fix.safe]
    if not chosen and not safe:
        return None
    lines = []
    if safe:
        lines.append(("findings.apply()", "a dataset with the safe fixes; files stay as they are"))
    lines += [(f'findings.apply("{name}")', "with this one too") for name in chosen]
    rows = [(tag("code", code), words) for code, words in lines]
    return fold("How to mend it", table(("", ""), rows), hint=count(len(lines), "way"))


def columns(finding: Finding) -> list[list[tuple[Html, object]]]:
    """The worst case, one picture for each way to see it."""
    return [[(thumbnail(p.image, Overlay(filled=p.labels)), caption(finding, p.title))] for p in finding.pictures()]


def caption(finding: Finding, title: str) -> str:
    """Which check, which case, and what is seen."""
    return " · ".join(dict.fromkeys(filter(None, (finding.check, finding.worst, title))))


def show_worst(finding: Finding) -> Any:
    """The finding as something that a notebook displays."""
    from IPython.display import HTML

    return HTML(show_finding(finding))
