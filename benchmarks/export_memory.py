"""How much memory it takes to bring a prediction of many classes back to a large scan, and that the result is the same.

    python benchmarks/export_memory.py
    python benchmarks/export_memory.py --classes 100 --scan 400 512 512 --coarser 3

Logits of all classes on a grid `coarser` times as coarse as the scan become the scan's label map. The direct way would
hold every class at the scan's size at once; its memory is printed beside ours. On a corner of the scan both are made
and compared. Ends with status 1 above 4 GB, or where a voxel differs.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from scipy import ndimage
from table import row

from autoseg.data.geometry import Box, Grid
from autoseg.data.labels import Labels
from autoseg.preprocessing.cases import CaseGeometry, restore_logits
from autoseg.preprocessing.resampling import resample_probabilities

LIMIT_GB = 4.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--scan", type=int, nargs=3, default=(400, 512, 512), metavar=("Z", "Y", "X"))
    parser.add_argument("--coarser", type=float, default=3.0)
    options = parser.parse_args()
    labels = Labels({"background": 0, **{f"organ {i}": i for i in range(1, options.classes)}})
    shape = tuple(round(n / options.coarser) for n in options.scan)
    logits = make_logits(options.classes, shape)
    held = logits.nbytes / 1e9
    begun = time.perf_counter()
    label_map = restore_logits(logits, geometry(tuple(options.scan), shape), labels)
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    direct = 4e-9 * options.classes * float(np.prod(options.scan))
    print(
        f"{options.classes} classes, {'x'.join(map(str, shape))} to {'x'.join(map(str, options.scan))}: {seconds:.0f} s"
    )
    print(f"peak {peak:.2f} GB, of which {held:.2f} GB are the logits; the direct way needs {direct:.0f} GB and more")
    same = compare_with_direct(logits, labels, options.coarser)
    print(
        f"{same:.4%} of the voxels of a corner equal the direct way's; {len(np.unique(label_map.array))} classes found"
    )
    row(f"memory to bring {options.classes} classes back to the scan", autoseg=f"{peak:.2f} GB")
    sys.exit(0 if peak < LIMIT_GB and same == 1 else 1)


def make_logits(classes: int, shape: tuple[int, ...]) -> np.ndarray:
    """Smooth noise, another one for each class, in half precision as a sliding window keeps them."""
    random = np.random.default_rng(0)
    logits = np.empty((classes, *shape), np.float16)
    for channel in logits:
        coarse = random.normal(size=tuple(-(-n // 8) for n in shape)).astype(np.float32)
        smooth = ndimage.zoom(coarse, 8, order=1)
        channel[:] = smooth[tuple(slice(n) for n in shape)]
    return logits


def geometry(scan: tuple[int, ...], shape: tuple[int, ...]) -> CaseGeometry:
    spacing = tuple(n / m for n, m in zip(scan, shape, strict=True))
    return CaseGeometry(
        original=Grid.of(scan),
        axis_order=(0, 1, 2),
        box=Box((0, 0, 0), scan),
        shape=shape,
        spacing_before=(1.0, 1.0, 1.0),
        spacing_after=spacing,
    )


def compare_with_direct(logits: np.ndarray, labels: Labels, coarser: float) -> float:
    """On a corner small enough for it: resample every class, then take the largest."""
    corner = np.ascontiguousarray(logits[:, :24, :24, :24])
    shape = corner.shape[1:]
    scan = tuple(round(n * coarser) for n in shape)
    there = geometry(scan, shape)
    lean = restore_logits(corner, there, labels).array
    spacings = {"spacing_from": there.spacing_after, "spacing_to": there.spacing_before}
    direct = resample_probabilities(corner, scan, **spacings).argmax(axis=0)
    return float((lean == direct).mean())


if __name__ == "__main__":
    main()
