"""Builds the documentation as plain pages, without internet: the notebooks with their outputs, the pages that lie here,
and every public name from its docstring.

    python docs/build.py            # into site/, which then opens in any browser: site/index.html
    python docs/build.py FOLDER

Ends with an error where a link leads nowhere.
"""

from __future__ import annotations

import re
import shutil
import sys
from html import escape
from pathlib import Path
from urllib.parse import unquote

import mistune
import nbformat
import pdoc
import pdoc.render
from nbconvert import HTMLExporter

import autoseg

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
STYLE = (HERE / "style.css").read_text()
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>{style}</style><main>{body}</main></html>"""


def build(folder: Path) -> None:
    """Write the whole site. Raises `SystemExit` naming the links that lead nowhere."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "notebooks").mkdir(parents=True)
    notebooks = [write_notebook(path, folder) for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
    for picture in (ROOT / "notebooks").glob("*.png"):
        shutil.copy(picture, folder / "notebooks")
    write_reference(folder / "reference")
    for page in HERE.glob("*.md"):
        write_page(page.read_text(), folder / f"{page.stem}.html")
    lines = [f"- [{title}](notebooks/{name}.html)" for name, title in notebooks]
    index = (HERE / "index.md").read_text().replace("NOTEBOOKS", "\n".join(lines))
    write_page(index, folder / "index.html")
    if broken := broken_links(folder):
        raise SystemExit("these links lead nowhere:\n" + "\n".join(broken))


def write_notebook(path: Path, folder: Path) -> tuple[str, str]:
    """One notebook as a page. Returns its name and its title, the first heading."""
    notebook = nbformat.read(path, as_version=4)
    body, _ = HTMLExporter(exclude_input_prompt=True, exclude_output_prompt=True).from_notebook_node(notebook)
    body = body.replace('.ipynb"', '.html"')  # links between notebooks lead to their pages
    body = re.sub(r'<script src="https?://[^"]*"[^>]*>\s*</script>', "", body)  # nothing is loaded from elsewhere
    body = re.sub(r'<img alt="([^"]*)" src="https?://[^>]*>', r"\1", body)  # a badge is its words
    (folder / "notebooks" / f"{path.stem}.html").write_text(body)
    return path.stem, notebook.cells[0].source.partition("\n")[0].lstrip("# ")


def write_page(text: str, path: Path) -> None:
    """Markdown as a page; links to other Markdown pages lead to theirs."""
    body = str(mistune.html(text)).replace('.md"', '.html"').replace('.ipynb"', '.html"')
    title = re.search(r"^# (.*)", text, flags=re.MULTILINE)
    path.write_text(PAGE.format(title=escape(title[1] if title else path.stem), style=STYLE, body=body))


def write_reference(folder: Path) -> None:
    """Every public name with its docstring, and the modules they live in."""
    for name in autoseg.PUBLIC:
        setattr(autoseg, name, getattr(autoseg, name))  # pdoc does not see what is only loaded on first use
    modules = sorted({f"autoseg.{module}" for module in autoseg.PUBLIC.values()})
    pdoc.render.configure(docformat="google", show_source=False, search=False)
    pdoc.pdoc("autoseg", *modules, output_directory=folder)


def broken_links(folder: Path) -> list[str]:
    """Relative links of all pages whose target is not there."""
    found = []
    for page in folder.rglob("*.html"):
        if folder / "reference" in page.parents:
            continue  # pdoc's own
        for target in re.findall(r'(?:href|src)="([^"#:]+)(?:#[^"]*)?"', page.read_text()):
            if not (page.parent / unquote(target)).exists():
                found.append(f"{page.relative_to(folder)}: {target}")
    return found


if __name__ == "__main__":
    build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site")
