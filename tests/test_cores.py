"""A container's processor quota is read and kept."""

from __future__ import annotations

import math

import pytest
import torch

from autoseg.training.compute import choose_compute
from autoseg.training.cores import container_cores, keep_to_quota


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def write(folder, **files):
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("cpu_max", "cpu.max").replace("cfs", "cpu.cfs")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return folder


def test_both_versions_of_control_groups_are_read(tmp_path):
    assert container_cores(tmp_path) == math.inf
    assert container_cores(write(tmp_path, cpu__cfs_quota_us="50000", cpu__cfs_period_us="100000")) == 0.5
    assert container_cores(write(tmp_path, cpu__cfs_quota_us="-1")) == math.inf
    assert container_cores(write(tmp_path, cpu_max="150000 100000\n")) == 1.5
    assert container_cores(write(tmp_path, cpu_max="max 100000\n")) == math.inf
    assert container_cores(write(tmp_path, cpu_max="nonsense")) == math.inf


def test_threads_beyond_the_quota_are_given_up_and_it_is_said(tmp_path, threads):
    threads(4)
    assert keep_to_quota(write(tmp_path, cpu_max="max 100000")) == "" and torch.get_num_threads() == 4
    said = keep_to_quota(write(tmp_path, cpu_max="250000 100000"))
    assert said == "; 2 threads instead of 4, because this container may use 2.5 cores"
    assert torch.get_num_threads() == 2
    keep_to_quota(write(tmp_path, cpu_max="20000 100000"))
    assert torch.get_num_threads() == 1


def test_fewer_threads_than_allowed_stay(tmp_path, threads):
    threads(1)
    assert keep_to_quota(write(tmp_path, cpu_max="400000 100000")) == "" and torch.get_num_threads() == 1
    assert "threads" not in choose_compute("cpu").reason
