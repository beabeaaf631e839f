"""Derive the seed of every random choice from one seed by hashing a path."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *path: str | int) -> int:
    """Seed in [0, 2**32) for one use of randomness, e.g. ``derive_seed(0, "split", 2, row_id)``.

    Hashing (rather than adding an offset) keeps streams independent, and lets any step be replayed by itself:
    the stream of optimizer step 500 needs no state from step 499.
    """
    text = "\x1f".join([str(int(seed)), *(f"{type(part).__name__}:{part}" for part in path)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "little")
