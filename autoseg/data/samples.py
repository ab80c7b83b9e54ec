"""Datasets that come with autoseg or are made on the spot, so that everything can be tried without a download."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from autoseg.core.errors import DatasetError, did_you_mean
from autoseg.data.dataset import Dataset
from autoseg.data.generated import GENERATED
from autoseg.data.opening import open_dataset

EMBEDDED = {"seahorse": "Task90_Seahorse"}


def sample_dataset(name: str = "seahorse") -> Dataset:
    """Open a dataset that comes with autoseg, or make one in memory.

    ``seahorse`` has 26 training and 4 test cases of simulated MR, about 40x48x40 voxels of 1 mm: the head and the tail
    of an organ that is bent like the hippocampus. ``data_samples/make_samples.py`` makes it.

    The others, which `samples` lists, are made the same each time, small and at once: for each planning rule one where
    it takes effect and one where it just does not, and one with each usual fault.

    Raises `DatasetError` for a name that is not known.

    >>> sample_dataset()
    Dataset('Seahorse': 26 training, 4 test cases)
      channels: MRI
      Labels(0 background, 1 head, 2 tail)
    >>> sample_dataset("anisotropic")[0].image()
    Image(10x40x40 voxels of 6x1x1 mm, MRI)
    """
    if name in GENERATED:
        return GENERATED[name].make(name)
    if name not in EMBEDDED:
        raise DatasetError(f"no sample dataset is called {name!r}. {did_you_mean(name, samples())}")
    return open_dataset(_folder(EMBEDDED[name]))


def samples() -> dict[str, str]:
    """The name of every sample dataset, and what it is like.

    >>> samples()["thick_but_many"]
    'thick slices, but many'
    """
    return {"seahorse": "an organ like the hippocampus", **{name: made.what for name, made in GENERATED.items()}}


def _folder(task: str) -> Path:
    """Inside the package where a wheel was installed, beside it in a checkout."""
    package = Path(str(files("autoseg")))
    for place in (package / "data_samples", package.parent / "data_samples"):
        if (place / task).is_dir():
            return place / task
    raise DatasetError(f"{task} is missing: it is not in {package} nor beside it. Install autoseg again.")
