"""How a simulation is cut into shards, each with its own place in one stream of random numbers, and run on threads."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The sum over events is made in this many parts, whatever the number of threads, so that it always has one order.
N_SHARDS = 32


def stream_key(seed: int, stream: str) -> tuple[int, int]:
    """Two 32-bit words from seed and stream; the same on every platform."""
    digest = hashlib.sha256(f"modelbuilder.kinematics/1\0{int(seed)}\0{stream}".encode()).digest()
    return int.from_bytes(digest[0:4], "little"), int.from_bytes(digest[4:8], "little")


def ordered_sum(parts: Floats) -> Floats:
    total: Floats = np.zeros_like(parts[0])
    for part in parts:
        total += part
    return total


def shard_bounds(n_events: int, block: int) -> npt.NDArray[np.int64]:
    """First events of the shards, multiples of the block, and n_events."""
    n_blocks = -(-n_events // block)
    n_shards = min(N_SHARDS, n_blocks)
    first = [block * (n_blocks * shard // n_shards) for shard in range(n_shards)]
    return np.array([*first, n_events], dtype=np.int64)


# numba's simplest threading layer aborts the process if two threads enter it at the same time.
_THREADING_LAYER = threading.Lock()


@contextmanager
def numba_threads(n_threads: int) -> Iterator[None]:
    import numba  # slow to import

    with _THREADING_LAYER:
        before = numba.get_num_threads()
        numba.set_num_threads(n_threads)
        try:
            yield
        finally:
            numba.set_num_threads(before)


def available_threads(requested: int | None) -> int:
    import numba

    if requested is None:
        return int(numba.get_num_threads())
    return min(requested, int(vars(numba.config)["NUMBA_NUM_THREADS"]))
