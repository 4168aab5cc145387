"""How work is spread over threads: small matrices want one, large ones all."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import joblib
from threadpoolctl import threadpool_limits

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def torch_threads(count: int | None = None) -> Iterator[None]:
    """Work on `count` threads, or on as many as there are cores; then on as many as before.

    The number decides the order of sums, and so the last bits of a result.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count or joblib.cpu_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Results of work on each item, in their order, made in as many threads as there are cores.

    For work on large arrays, in which NumPy lets go of Python's lock: many small operations would
    only wait for each other.
    """
    pool = joblib.Parallel(joblib.cpu_count(), backend="threading", return_as="generator")
    with threadpool_limits(limits=1):
        yield from cast(Iterator, pool(joblib.delayed(work)(item) for item in items))
