"""Clocks and tables that the benchmarks share.

A row of a table: `name`; `ours_s` and `other_s`, seconds; `other`, the competitor; `ratio`, theirs over ours; `agreement`,
how far apart the two answers are (each benchmark says in what measure). What does not apply is null. A competitor that
is not installed has a row that says "absent"; one that gives no answer has a row that says so.

Seconds of work on one thread are the smaller one of wall and processor time, best of several rounds: time that a busy
machine takes away counts for nobody. Seconds of several threads or of a process are wall time.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

Row = dict[str, Any]
Answer = TypeVar("Answer")

_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "RAYON_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}


def with_one_thread() -> None:
    """Start this script again with libraries that use one thread; they look only when they are loaded."""
    if any(os.environ.get(name) != value for name, value in _ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **_ONE_THREAD})


def timed(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds on one thread, and what came back."""
    wall, processor = time.perf_counter(), time.process_time()
    answer = work()
    return min(time.perf_counter() - wall, time.process_time() - processor), answer


def best_time(work: Callable[[], object], rounds: int) -> float:
    """Seconds on one thread of the fastest of several rounds."""
    return min(timed(work)[0] for _ in range(rounds))


def wall_time(work: Callable[[], Answer]) -> tuple[float, Answer]:
    """Seconds by the clock on the wall, and what came back."""
    begin = time.perf_counter()
    answer = work()
    return time.perf_counter() - begin, answer


@dataclass(frozen=True, kw_only=True)
class Process:
    """What a process and its children took, seconds, and what it wrote to standard output."""

    wall_s: float
    processor_s: float
    output: str


def run_process(
    command: Sequence[str],
    environment: dict[str, str] | None = None,
    *,
    given: str | None = None,
    at_most_s: float | None = None,
) -> Process:
    """Run to the end, `given` on its standard input; raises what `subprocess.run` does if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        input=given,
        timeout=at_most_s,
        env={**os.environ, **(environment or {})},
    )
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Process(wall_s=wall, processor_s=processor, output=done.stdout)


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def row(
    name: str,
    ours_s: float | None,
    other: str,
    other_s: float | None = None,
    agreement: float | None = None,
) -> Row:
    ratio = None if ours_s is None or other_s is None else other_s / ours_s
    return {
        "name": name,
        "ours_s": ours_s,
        "other": other,
        "other_s": other_s,
        "ratio": ratio,
        "agreement": agreement,
    }


def parse_arguments(documentation: str | None, add: Callable[[argparse.ArgumentParser], None]) -> argparse.Namespace:
    """The options of a benchmark: `--json`, and what `add` adds."""
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON list on standard output")
    add(parser)
    return parser.parse_args()


def print_rows(rows: Sequence[Row], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=1, allow_nan=False))
        return
    for entry in rows:
        ours = "" if entry["ours_s"] is None else f"{_seconds(entry['ours_s'])}; "
        theirs = "" if entry["other_s"] is None else f": {_seconds(entry['other_s'])}, ratio {entry['ratio']:.4g}"
        agreement = "" if entry["agreement"] is None else f", agreement {entry['agreement']:.2g}"
        print(f"{entry['name']}: {ours}{entry['other']}{theirs}{agreement}")


def _seconds(seconds: float) -> str:
    return f"{1e3 * seconds:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"
