"""How a simulation is cut into shards, each with its own place in one stream of random numbers, and run on threads."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

# The sum over events is made in this many parts, whatever the number of threads, so that it always has one order.
N_SHARDS = 32


def stream_key(seed: int, stream: str) -> tuple[int, int]:
    """Two 32-bit words from seed and stream; the same on every platform."""
    digest = hashlib.sha256(f"modelbuilder.kinematics/1\0{int(seed)}\0{stream}".encode()).digest()
    return int.from_bytes(digest[0:4], "little"), int.from_bytes(digest[4:8], "little")


def generator(seed: int, stream: str) -> np.random.Generator:
    """Random numbers that are a function of the seed and the name of the stream."""
    return np.random.Generator(np.random.Philox(key=np.array(stream_key(seed, stream), dtype=np.uint64)))


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


def available_threads(requested: int | None) -> int:
    """The number of threads that was asked for, or one for each processor that this process may use."""
    if requested is not None:
        return requested
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_shards(work: Callable[[int], None], n_shards: int, n_threads: int | None) -> None:
    """Call `work` with 0 to n_shards - 1, on threads: kernels release the interpreter lock.

    Each shard must write to places of its own; then the result does not depend on the threads.
    """
    threads = min(available_threads(n_threads), n_shards)
    if threads <= 1:
        for shard in range(n_shards):
            work(shard)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, range(n_shards)):
            pass


def is_compiled(kernel: Any) -> bool:
    """Whether compiled code of a kernel, as its files are now, lies on disk."""
    return bool(kernel._cache._cache_file._load_index())
