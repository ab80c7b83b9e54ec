"""Freed memory is kept for the next step, and given back afterwards."""

from __future__ import annotations

import resource
import subprocess
import sys
import threading

import pytest
import torch

from autoseg.training import heap

needs_glibc = pytest.mark.skipif(heap._glibc() is None, reason="only glibc returns large blocks with every free")
MEGABYTES = 64
PAGES = (MEGABYTES << 20) // resource.getpagesize()


def faults_of_ten_tensors():
    for i in range(20):
        if i == 10:  # until here the heap may grow
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.empty(MEGABYTES << 18).fill_(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def in_a_new_process(code):
    """Page faults depend on what the process did before."""
    found = subprocess.run(
        [sys.executable, "-c", f"from tests.test_heap import *\n{code}"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


@needs_glibc
def test_pages_are_asked_for_once():
    usual, kept = in_a_new_process(
        "print(faults_of_ten_tensors())\nwith heap.kept_memory(): print(faults_of_ten_tensors())"
    )
    assert int(kept) < PAGES
    assert int(usual) > 9 * PAGES


@needs_glibc
def test_memory_is_given_back_at_the_end():
    code = """
def resident():
    return int(open('/proc/self/statm').read().split()[1])
with heap.kept_memory():
    faults_of_ten_tensors()
    within = resident()
print(within - resident())
"""
    assert int(in_a_new_process(code)[0]) > PAGES // 2


def test_blocks_within_each_other_and_in_threads_end_with_the_last():
    with heap.kept_memory():
        other = heap.kept_memory()
        thread = threading.Thread(target=other.__enter__)
        thread.start()
        thread.join()
        with heap.kept_memory():
            assert heap.HEAP.blocks == 3
        assert heap.HEAP.blocks == 2
    assert heap.HEAP.blocks == 1
    other.__exit__(None, None, None)
    assert heap.HEAP.blocks == 0


def test_an_error_inside_ends_the_block():
    with pytest.raises(ZeroDivisionError), heap.kept_memory():
        _ = 1 / 0
    assert heap.HEAP.blocks == 0


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(heap, "_glibc", lambda: None)
    with heap.kept_memory():
        assert heap.HEAP.blocks == 1
    assert heap.HEAP.blocks == 0
