"""Materialising partitions one after the other, or several at once in processes that stay.

Dagster's own ways of doing several at once serve others: its multiprocess executor has processes
for the steps of one run, which here is one partition, and its queue starts a process for each run,
whose imports take longer than most partitions of a toy.
"""

import heapq
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from graphlib import TopologicalSorter
from types import FrameType
from typing import NamedTuple

import dagster as dg
import joblib

from aanet_assets.orchestration.driver import Driver, Failure
from aanet_assets.orchestration.pipeline import step_named
from aanet_assets.storage.kept import let_go
from aanet_assets.storage.step import Partition, upstream
from aanet_assets.study.study import Study


class Made(NamedTuple):
    """What became of a partition."""

    partition: Partition
    seconds: float | None
    """None where it was there already."""
    warnings: list[str]
    """What its checks warn of, a sentence each."""


class Look(NamedTuple):
    """What goes on at one moment."""

    at_work: list[Partition]
    ended: Made | None
    """What ended just now."""


def drive(driver: Driver, todo: Sequence[Partition], workers: int = 1) -> Iterator[Look]:
    """Materialise what is not there yet, in an order in which each finds what it reads.

    Args:
        workers: how many at once. More than one are processes of their own, each with its own
            memory; of the partitions on a GPU only one is made at a time all the same.

    Raises:
        Failure: a partition failed; those at work beside it have come to their end.
        KeyboardInterrupt: it was interrupted, and so are those at work.
    """
    return _one_by_one(driver, todo) if workers == 1 else _together(driver, todo, workers)


def _one_by_one(driver: Driver, todo: Sequence[Partition]) -> Iterator[Look]:
    for partition in todo:
        yield Look([partition], None)
        if driver.is_there(partition):
            yield Look([], Made(partition, None, []))
            continue
        started = time.monotonic()
        warnings = driver.materialise(partition)
        yield Look([], Made(partition, time.monotonic() - started, warnings))


def _together(driver: Driver, todo: Sequence[Partition], workers: int) -> Iterator[Look]:
    order = Order(driver.study, todo)
    at_work: dict[Future[tuple[float, list[str]]], Partition] = {}
    with _pool(driver.study, workers) as pool:
        while order.is_active():
            is_room = len(at_work) < workers
            partition = order.next(beside=[*at_work.values()]) if is_room else None
            if partition is None:
                for future in wait(at_work, return_when=FIRST_COMPLETED).done:
                    partition = at_work.pop(future)
                    made = Made(partition, *_result(future))
                    order.done(partition)
                    yield Look([*at_work.values()], made)
            elif driver.is_there(partition):
                order.done(partition)
                yield Look([*at_work.values()], Made(partition, None, []))
            else:
                with _interrupts_ignored():
                    future = pool.submit(_work, partition.step.name, partition.key)
                at_work[future] = partition
                yield Look([*at_work.values()], None)


class Order:
    """Which partition comes next: what it reads is done, and its place in the plan is the first."""

    def __init__(self, study: Study, todo: Sequence[Partition]):
        self._place = {partition: i for i, partition in enumerate(todo)}
        self._graph = TopologicalSorter(
            {p: self._place.keys() & {*upstream(study, p)} for p in todo}
        )
        self._graph.prepare()
        self._has_gpu = study.device != "cpu"
        self._ready: dict[bool, list[tuple[int, Partition]]] = {False: [], True: []}

    def is_active(self) -> bool:
        """Whether any is not done."""
        return self._graph.is_active()

    def done(self, partition: Partition) -> None:
        """What reads it may come."""
        self._graph.done(partition)

    def next(self, beside: Sequence[Partition]) -> Partition | None:
        """Take the next one that may be made beside others; None where there is none now."""
        for partition in self._graph.get_ready():
            item = self._place[partition], partition
            heapq.heappush(self._ready[self._uses_gpu(partition)], item)
        is_taken = any(map(self._uses_gpu, beside))
        heaps = [heap for gpu, heap in self._ready.items() if heap and not (gpu and is_taken)]
        return heapq.heappop(min(heaps))[1] if heaps else None

    def _uses_gpu(self, partition: Partition) -> bool:
        return self._has_gpu and partition.step.on_device


@contextmanager
def _pool(study: Study, workers: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that work on partitions, and are interrupted where this one is."""
    spawned = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, spawned, _enter, (study, workers)) as pool:
        try:
            yield pool
        except BaseException as error:
            if not isinstance(error, Exception):
                for process in multiprocessing.active_children():
                    os.kill(process.pid or 0, signal.SIGINT)
            raise


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """A process that is started meanwhile ignores them, too; they would end its imports midway."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _result(future: Future[tuple[float, list[str]]]) -> tuple[float, list[str]]:
    try:
        return future.result()
    except BrokenProcessPool:
        raise Failure(
            "a worker's process ended without a word: it was killed, or there was no memory left "
            "for it (fewer --workers need less). What was finished is kept; run again to go on"
        ) from None


_driver: Driver | None = None
"""Of a worker's process."""
_is_busy = False


def _enter(study: Study, workers: int) -> None:
    """Make ready a process that has just been started."""
    global _driver
    # Steps that use several threads share the cores with the other workers.
    os.environ["LOKY_MAX_CPU_COUNT"] = str(max(joblib.cpu_count() // workers, 1))
    # Ctrl-C in a terminal reaches the parent alone, which passes it on, once.
    os.setsid()
    signal.signal(signal.SIGINT, _interrupt)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # What a check warns of is returned.
    logging.getLogger("aanet").addHandler(logging.NullHandler())
    _driver = Driver(study, dg.DagsterInstance.get())


def _interrupt(number: int, frame: FrameType | None) -> None:
    """One that has nothing to do waits for its end, and has nothing to say."""
    if _is_busy:
        signal.default_int_handler(number, frame)


def _end_with_parent() -> None:
    """Where the parent is killed, nobody else would ever end its workers."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(name: str, key: str | None) -> tuple[float, list[str]]:
    """Make a partition in this process: how long it took, and what its checks warn of."""
    global _is_busy
    assert _driver is not None
    started, _is_busy = time.monotonic(), True
    try:
        warnings = _driver.materialise(step_named(_driver.study, name).of_key(key))
        return time.monotonic() - started, warnings
    finally:
        let_go()
        _is_busy = False
