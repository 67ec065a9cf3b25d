"""Workers on this machine, one point at a time each: a dask.distributed cluster without threads to share.

Kernels are children of a worker. A kernel ends when its parent is gone, and a worker when the leading process is.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from traindyn.errors import import_extra
from traindyn.run import tasks
from traindyn.run.notebook import environment

SETTINGS = {
    "distributed.scheduler.allowed-failures": 0,  # a point that takes its worker down is told, not tried again
    "distributed.scheduler.worker-saturation": 1.0,  # no point waits on a worker, where it would be lost with another
    "distributed.worker.daemon": False,  # a worker has kernels, and a daemonic process may have no children
    "distributed.admin.tick.limit": "1h",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.logging": {"distributed": "critical", "asyncio": "critical"},
}


def _plugin(variables: dict[str, str]) -> Any:
    distributed = import_extra("distributed", "a sweep")

    class Plain(distributed.WorkerPlugin):
        def setup(self, worker: Any) -> None:
            os.environ.clear()  # dask sets PYTHONHASHSEED and numbers of threads, which a run's content key sees
            os.environ.update(variables)
            with suppress(ValueError):  # not in the main thread
                tasks.ignore_interrupts()

    return Plain()


@contextmanager
def local(workers: int) -> Iterator[Any]:
    """Give a client of a cluster of `workers` processes with one thread each; close both in the end.

    Raises:
        InputError: distributed is not installed.
    """
    distributed, dask = import_extra("distributed", "a sweep"), import_extra("dask", "a sweep")
    for name in ("distributed", "tornado.application", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    variables = dict(os.environ)
    with (
        tempfile.TemporaryDirectory(prefix="traindyn-", ignore_cleanup_errors=True) as scratch,
        dask.config.set(SETTINGS),
    ):
        with environment({}):
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                memory_limit=0,  # what takes memory is the kernel, which a nanny does not see: the task watches it
                dashboard_address=None,
                scheduler_kwargs={"dashboard_address": "127.0.0.1:0"},  # its HTTP server: any port that is free
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            )
        try:
            with distributed.Client(cluster) as client:
                client.register_plugin(_plugin(variables), name="plain")
                yield client
        finally:
            cluster.close(timeout=10)


def memory_share(workers: int) -> float:
    """Return the bytes that each of `workers` points may take: nine tenths of what the system lets us have."""
    return 0.9 * import_extra("distributed.system", "a sweep").MEMORY_LIMIT / workers
