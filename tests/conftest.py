"""Fixtures that every test file shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell are started without
settings.register_profile("shared machine", deadline=None)  # others may compute at the same time
settings.load_profile("shared machine")

collect_ignore_glob = ["golden/*"]  # scripts that recorded nnU-Net's numbers; they need nnU-Net itself
SHARED = Path(__file__).resolve().parents[2] / "shared"


def _shared(name: str) -> Path:
    folder = SHARED / name
    if not folder.is_dir():
        message = f"{folder} is missing: the real data and nnU-Net's numbers are kept beside the repository"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return folder


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real datasets."""
    return _shared("data")


@pytest.fixture(scope="session")
def reference() -> Path:
    """What nnU-Net 2.8.1 computed: golden plans, folds, real plans."""
    return _shared("reference")
