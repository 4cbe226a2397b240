"""Writes the shares of an export in one process per core."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait as wait_for_sentinel

from everymask.errors import OutputError
from everymask.formats.format import Format
from everymask.formats.shares import Job, Share, Told, write_share

WriteShares = Callable[[Job, Format, Iterable[Share], Callable[[int], None]], Iterator[Told]]
"""Writes shares in any order and yields their reports; calls its last argument with the number of images done."""

_WAITING = 2
"""Shares queued per process; they hold names, so not all are made at once."""


def write_here(job: Job, chosen: Format, shares: Iterable[Share], done: Callable[[int], None]) -> Iterator[Told]:
    """Write shares one after the other in this process."""
    for share in shares:
        yield write_share(job, chosen, share, lambda: done(1))


def write_in_processes(processes: int) -> WriteShares:
    """Write shares in several processes."""

    def write(job: Job, chosen: Format, shares: Iterable[Share], done: Callable[[int], None]) -> Iterator[Told]:
        shares = iter(shares)
        first = list(itertools.islice(shares, 2))
        if len(first) < 2:  # not worth a process
            yield from write_here(job, chosen, first, done)
            return
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(processes, context, _begin, (job,))
        running: set[Future[Told]] = set()
        try:
            for share in itertools.chain(first, shares):
                running.add(pool.submit(_write, share))
                if len(running) >= _WAITING * processes:
                    yield from _finished(running, done)
            while running:
                yield from _finished(running, done)
        except BrokenProcessPool as error:
            raise OutputError(
                "a process that wrote the export was ended, perhaps for want of memory; the same command goes on "
                "where it was, with fewer of them if you give --processes"
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)

    return write


def _finished(running: set[Future[Told]], done: Callable[[int], None]) -> Iterator[Told]:
    finished, _ = wait(running, return_when=FIRST_COMPLETED)
    running -= finished
    for future in finished:
        told = future.result()
        done(told.images)
        yield told


_job: Job


def _begin(job: Job) -> None:
    """Prepare a process that ends with its parent, even if the parent is killed."""
    global _job
    _job = job
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for_sentinel([sentinel])
    os._exit(1)


def _write(share: Share) -> Told:
    from everymask.formats.registry import find_format

    return write_share(_job, find_format(_job.format), share)
