"""How many threads PyTorch works on: small matrices want one, large ones all."""

from collections.abc import Iterator
from contextlib import contextmanager

import joblib


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
