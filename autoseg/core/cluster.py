"""Work on the workers of a `dask.distributed` client: a cluster, a cloud, or the cores of one machine.

Nothing of dask is imported here: whoever has a client has dask. Arguments and results are small, such as names, paths
and settings; what is computed lies in a folder that every worker sees.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from autoseg.core.errors import StorageError
from autoseg.core.types import PathLike

RETRIES = 2  # of a task that fails for another reason than its worker's death, which dask answers by itself
GPU = "GPU"  # the resource that workers declare: dask worker --resources "GPU=1"


def on_workers(
    client: Any,
    function: Callable[..., Any],
    arguments: Sequence[Any],
    *,
    names: Sequence[str],
    gpu: bool = False,
    **shared: Any,
) -> Iterator[Any]:
    """What a function returns for each argument, in their order, computed by the client's workers.

    A worker that dies costs only the tasks it was at: others take them. With `gpu` a task holds one of the GPUs that
    workers declare, if any does. Left before its end, the tasks that wait are cancelled.

    Args:
        names: of the tasks on dask's dashboard, such as ``preprocess-case_01``.
        shared: further arguments of the function, the same for all; a future of the client is sent once a worker.
    """
    run = uuid.uuid4().hex[:8]
    futures = client.map(
        function,
        arguments,
        key=[f"{name}-{run}" for name in names],
        retries=RETRIES,
        resources={GPU: 1} if gpu and _has_gpus(client) else None,
        pure=False,
        **shared,
    )
    try:
        for future in futures:
            yield future.result()
    finally:
        client.cancel([future for future in futures if not future.done()])


def _has_gpus(client: Any) -> bool:
    workers = client.scheduler_info()["workers"].values()
    return any(worker.get("resources", {}).get(GPU) for worker in workers)


def shared_folder(folder: PathLike | None, verb: str) -> Path:
    """The folder in which workers leave what they made. Raises `StorageError` where none was given."""
    if folder is None:
        raise StorageError(
            f"{verb}(..., client=...) needs a folder that every worker sees, for what they make: {verb}(..., "
            'folder="/shared/work", client=client).'
        )
    return Path(folder).resolve()
