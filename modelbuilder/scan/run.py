"""Run a search or a combination over its grid: in parallel processes, results kept as they come, resumed where they stopped."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from modelbuilder.errors import ModelBuilderError, WorkspaceError
from modelbuilder.histograms.cache import SimulationCache, open_cache
from modelbuilder.histograms.templates import to_uhi_json
from modelbuilder.kinematics.shards import available_threads
from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import Shared, check_files, points_of, searches_of
from modelbuilder.scan.store import TEMPLATES, RunDirectory, versions, write_atomically
from modelbuilder.spec.grid import GridPoint, spread
from modelbuilder.spec.load import Loaded

Progress = Callable[[str, int, int], None]
"""Called with what is going on, the number of points done, and their total."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run did.

    resumed: points that were there before.    failed: names of points without a limit by some method, and statuses.
    failed_at_lifetimes: statuses of rows without a limit at points that have one at other lifetimes, with their number.
    warned: rows with a warning.    lint: findings, each after the name of its point.
    """

    path: Path
    points: int
    resumed: int
    failed: dict[str, str]
    failed_at_lifetimes: dict[str, int]
    warned: int
    lint: tuple[str, ...]


def run_search(
    search: Loaded,
    path: Path,
    *,
    points: int | None = None,
    only: Collection[str] | None = None,
    jobs: int | None = None,
    limits: bool = True,
    cache: Path | None = None,
    command: str = "",
    progress: Progress = lambda what, done, total: None,
) -> Summary:
    """Build, and with `limits` fit, the points of a search or of a combination into a run directory.

    points: that many, evenly spread over the grid; all if None.    only: names of those to choose from.
    jobs: processes; as many as processors if None. The result does not depend on `jobs`. With several jobs, a script must call this under `if __name__ == "__main__"`.
    cache: a folder of simulations, made if it is not there. What is found in it is not simulated again, what is not goes there; the result is the same.
    Raises RunDirectoryError if the directory belongs to something else, WorkspaceError if there is no background, SpecError
    where the bins of a file do not fit; nothing is written then.
    """
    if not all(one.spec.backgrounds for one in searches_of(search).values()):
        msg = (
            f"{search.place_of('backgrounds')}: backgrounds: there is none, and without one no limit can be found; name a"
            " process, or state what is `expected` of a free shape, however little"
        )
        raise WorkspaceError(msg)
    check_files(search)
    kept = None if cache is None else open_cache(cache, versions())
    chosen = spread(tuple(p for p in search.points if only is None or p.name in only), points)
    with RunDirectory.open_for(path, search, command=command) as run:
        resumed = sum(point.name in run.done for point in chosen)
        missing = [point for point in chosen if point.name not in run.done]
        if missing:
            progress("compiling and simulating the backgrounds", resumed, len(chosen))
            shared = points_of(search, n_threads=_jobs(jobs), cache=kept).shared(missing)
            for name, text in shared.files():
                write_atomically(run.path / TEMPLATES / name, text)
            tasks = _Tasks(search, shared, run, kept, limits=limits)
            number = resumed
            try:
                with closing(tasks.results(missing, _jobs(jobs))) as results:
                    for entries in results:
                        if limits:
                            run.append(entries)
                        number += len(entries)
                        progress("limits" if limits else "workspaces", number, len(chosen))
            except BaseException:
                run.finish(complete=False)  # the tables of what there is
                raise
        run.finish(complete=True)
        return _summary(run, chosen, resumed)


def _jobs(jobs: int | None) -> int:
    return max(1, available_threads(jobs or None))


def _summary(run: RunDirectory, chosen: tuple[GridPoint, ...], resumed: int) -> Summary:
    entries = [run.done[point.name] for point in chosen if point.name in run.done]
    failed: dict[str, str] = {}
    at_lifetimes: Counter[str] = Counter()
    for entry in entries:
        ok = {row["method"] for row in entry["rows"] if row["status"] == "ok"}
        for row in entry["rows"]:
            if row["status"] != "ok" and row["method"] in ok:
                at_lifetimes[row["status"]] += 1
            elif row["status"] != "ok":
                failed[entry["point"]] = row["status"]
    lint = tuple(f"{entry['point']}: {text}" for entry in entries for text in entry["lint"])
    warned = sum(bool(row.get("warnings")) for entry in entries for row in entry["rows"])
    return Summary(
        path=run.path,
        points=len(chosen),
        resumed=resumed,
        failed=failed,
        failed_at_lifetimes=dict(sorted(at_lifetimes.items())),
        warned=warned,
        lint=lint,
    )


class _Tasks:
    """The work of all points, in groups; in this process, or in others that each hold what the points share."""

    def __init__(
        self, search: Loaded, shared: Shared, run: RunDirectory, cache: SimulationCache | None, *, limits: bool
    ) -> None:
        self.search, self.shared, self.run, self.cache, self.limits = search, shared, run, cache, limits

    def results(self, points: list[GridPoint], jobs: int) -> Generator[list[dict[str, Any]], None, None]:
        """The entries of each group, as they come."""
        shared = (self.search, self.shared, self.run.path, self.limits, self.cache)
        size = self.shared.points_at_a_time
        groups = [points[first : first + size] for first in range(0, len(points), size)]
        if jobs == 1 or len(groups) == 1:
            worker = _Worker(*shared)
            for group in groups:
                yield worker.entries(group)
            return
        context = multiprocessing.get_context("spawn")
        others = set(multiprocessing.active_children())
        with ProcessPoolExecutor(min(jobs, len(groups)), context, _start_worker, shared) as pool:
            try:
                with _interrupts_wait():
                    futures: list[Future[list[dict[str, Any]]]] = [pool.submit(_entries, group) for group in groups]
                for future in as_completed(futures):
                    yield future.result()
            except BrokenProcessPool:
                msg = "a worker process died, perhaps for want of memory; finished points are kept, run again to go on"
                raise ModelBuilderError(msg) from None
            except BaseException:  # an interrupt, or the caller wants no more: do not work through what was handed out
                for child in set(multiprocessing.active_children()) - others:
                    child.terminate()
                raise
            finally:
                pool.shutdown(wait=False, cancel_futures=True)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C waits for the end of the block, also in processes that begin within, until they say what they do with it."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "pthread_sigmask"):
        yield  # no interrupt is raised in this thread; or Windows
        return
    resource_tracker.ensure_running()  # or it begins within, and lets interrupts through
    came: list[int] = []
    handler = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))  # another thread may receive it
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which new processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGINT, handler or signal.SIG_DFL)
        if came:
            signal.raise_signal(signal.SIGINT)


class _Worker:
    def __init__(self, search: Loaded, shared: Shared, path: Path, limits: bool, cache: SimulationCache | None) -> None:
        self.spec, self.shared, self.limits = search.spec, shared, limits
        self.points = points_of(search, cache=cache)
        self.run = RunDirectory(path, search)
        self.disk = ThreadPoolExecutor(1)

    def entries(self, points: list[GridPoint]) -> list[dict[str, Any]]:
        """Everything about points: their files are written, their rows returned."""
        return [self._entry(point) for point in points]

    def _entry(self, point: GridPoint) -> dict[str, Any]:
        made = self.points.made(point, self.shared)
        # a disk takes its time to make files safe, in which the limits are found
        templates = to_uhi_json(made.templates) if made.templates else ""
        written = self.disk.submit(self.run.write_point_files, point.name, made.workspace, templates)
        rows = limit_rows(self.spec, made) if self.limits else []
        written.result()
        return {"point": point.name, "rows": rows, "lint": [str(message) for message in made.lint]}


_worker: list[_Worker] = []


def _start_worker(*shared: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what it means
    threading.Thread(target=_leave_with_parent, daemon=True).start()
    _worker.append(_Worker(*shared))


def _leave_with_parent() -> None:
    """End this process when its parent has died; a worker of a killed pool would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _entries(points: list[GridPoint]) -> list[dict[str, Any]]:
    return _worker[0].entries(points)
