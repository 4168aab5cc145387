"""Shared by all tests: array shapes and types are checked while they run."""

import os

from jaxtyping import install_import_hook

# Two OpenMP threads on a busy two-core machine were up to 200 times slower than one.
os.environ.setdefault("OMP_NUM_THREADS", "1")

install_import_hook(
    [f"aanet_assets.{room}" for room in
     ("lm", "cache", "clustering", "archetypes", "analysis", "vertices", "toy")],
    "beartype.beartype",
)  # fmt: skip
