"""A real JupyterLab and a real Chromium: a notebook is run as a user runs it, and what is seen is kept as pictures."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
ARTEFACTS = ROOT / "build" / "browser"  # git ignores build/
WEBGL = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
PLUGINS = {  # settings that a user could click together; nothing is fetched from the network
    "apputils-extension/themes": {"theme": "JupyterLab Light"},
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none", "maxNumberOutputs": 50},
}
HARMLESS = ("favicon", "ResizeObserver loop", "GPU stall due to ReadPixels")


def missing(what: str) -> None:
    """Skip on a laptop, fail in the tests of a change."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(what)


class Page:
    """One notebook in a browser tab."""

    def __init__(self, page, name: str) -> None:
        self.page, self.name, self.errors = page, name, []
        page.set_default_timeout(60_000)  # how long a slow machine may take; nothing waits for it that is there
        page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def run_all(self, cells: int, *, timeout: float = 240.0) -> None:
        """Run every cell and wait until the last is done."""
        self.page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        self.page.wait_for_function("() => window.jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel")
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
        self.page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells') }")
        until = time.monotonic() + timeout
        while self.page.locator(f".jp-InputPrompt:has-text('[{cells}]:')").count() == 0:
            assert time.monotonic() < until, f"not done after {timeout:.0f} s: {self.prompts()}"
            assert not self.failures(), self.failures()
            time.sleep(0.3)
        assert not self.failures(), self.failures()

    def theme(self, name: str) -> None:
        """Change the theme as the menu does, without running anything again."""
        command = "name => window.jupyterapp.commands.execute('apputils:change-theme', { theme: name })"
        self.page.evaluate(command, f"JupyterLab {name}")
        self.page.wait_for_function("name => document.body.dataset.jpThemeName == name", arg=f"JupyterLab {name}")

    def prompts(self) -> list[str]:
        return self.page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()

    def failures(self) -> list[str]:
        return self.page.locator(
            "[data-mime-type='application/vnd.jupyter.stderr']:has-text('Error')"
        ).all_inner_texts()

    def cell(self, starts: str):
        """The cell whose code begins with these words."""
        sources = self.page.locator(".jp-CodeCell .cm-content").all_inner_texts()
        return self.page.locator(".jp-CodeCell").nth(next(i for i, s in enumerate(sources) if s.startswith(starts)))

    def picture(self, what: str, place=None) -> bytes:
        """What is seen of a place, kept as a file too."""
        place = place or self.page.locator(".jp-Notebook")
        ARTEFACTS.mkdir(parents=True, exist_ok=True)
        place.scroll_into_view_if_needed()
        return place.screenshot(path=ARTEFACTS / f"{self.name}_{what}.png")

    def settled(self, what: str, place) -> bytes:
        """What is seen of a place once it has been drawn and moves no longer."""
        seen = [b""]
        for _ in range(120):
            seen.append(self.picture(what, place))
            colours = Image.open(io.BytesIO(seen[-1])).convert("RGB").getcolors(256)
            if seen[-1] == seen[-2] and colours is None:
                return seen[-1]
            self.page.wait_for_timeout(500)
        raise AssertionError(f"{what} is still empty, or moving, after a minute")

    @property
    def alarming(self) -> list[str]:
        return [e for e in self.errors if not any(word in e for word in HARMLESS)]


class Lab:
    """A JupyterLab of this test's own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.settings = folder, folder / "settings"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        for name, values in PLUGINS.items():
            self.set(name, values)

    def set(self, plugin: str, values: dict) -> None:
        path = self.settings / "@jupyterlab" / f"{plugin}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values))

    def write(self, name: str, cells: list[str]) -> None:
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells], metadata=kernel)
        nbformat.write(made, self.folder / name)

    @contextlib.contextmanager
    def running(self) -> Iterator[Lab]:
        options = {
            "ServerApp.port": self.port,
            "ServerApp.port_retries": 0,  # rather fail than be asked for at the port of another
            "ServerApp.root_dir": self.folder,
            "ServerApp.allow_root": True,
            "IdentityProvider.token": "",
            "ServerApp.password": "",
            "LabApp.expose_app_in_browser": True,
            "JupyterNotebookApp.expose_app_in_browser": True,
        }
        environment = {**os.environ, "JUPYTERLAB_SETTINGS_DIR": str(self.settings), "OMP_NUM_THREADS": "1"}
        environment |= {"JUPYTERLAB_WORKSPACES_DIR": str(self.folder / "workspaces")}
        environment |= {"PYTHONPATH": str(ROOT)}  # the kernel shows this copy, wherever another is installed
        arguments = [f"--{key}={value}" for key, value in options.items()]
        with (self.folder / "lab.log").open("w") as log:
            command = [sys.executable, "-m", "jupyterlab", "--no-browser", *arguments]
            server = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd=self.folder)
        try:
            self._wait(server)
            yield self
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:  # a kernel that will not go must not fail what has passed
                server.kill()
                server.wait()

    def _wait(self, server: subprocess.Popen) -> None:
        until = time.monotonic() + 120
        while time.monotonic() < until and server.poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/status"):
                return
            time.sleep(0.3)
        pytest.fail(f"JupyterLab did not start:\n{(self.folder / 'lab.log').read_text()[-3000:]}")


@pytest.fixture(scope="session")
def lab(tmp_path_factory) -> Iterator[Lab]:
    pytest.importorskip("jupyterlab")
    with Lab(tmp_path_factory.mktemp("lab")).running() as lab:
        yield lab


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    api = pytest.importorskip("playwright.sync_api") if not os.environ.get("CI") else __import__("playwright.sync_api")
    api = sys.modules["playwright.sync_api"]
    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        missing("no chromium: install Debian's package of that name")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", *WEBGL])
        yield browser
        browser.close()


@pytest.fixture
def open_notebook(lab, chromium):
    """Opens a notebook of these cells in a window of this width: in JupyterLab, or in another `app`."""
    opened = []

    def open_(name: str, cells: list[str], *, width: int = 1100, app: str = "lab/tree") -> Page:
        lab.write(f"{name}.ipynb", cells)
        context = chromium.new_context(viewport={"width": width, "height": 1800})
        opened.append(context)
        page = Page(context.new_page(), name)
        page.page.goto(f"http://127.0.0.1:{lab.port}/{app}/{name}.ipynb?reset", timeout=60_000)
        return page

    yield open_
    for context in opened:
        context.close()
