"""Seeds that depend on what is computed and not on when: one per (seed, study, n, cluster, k)."""

import hashlib


def seed_for(seed: int, *what: object) -> int:
    """A 63-bit seed from a base seed and the names of what is drawn, equal on every machine."""
    text = "|".join(str(w) for w in (seed, *what))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
