"""The pytest plugin: `pytest specs/` runs the tests and lock files of every spec.

    --full              also those that simulate many events
    --update-locks      write lock files anew in place of comparing with them

A spec is collected if it has `tests`, or a lock file beside it. Its tests share one run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from modelbuilder.regression.check import Checked
    from modelbuilder.spec.load import Loaded

FAST = 3_000_000
"""Simulated events up to which the tests of a spec run without --full."""
_IS_SPEC = re.compile(r"""^\s*["']?(schema["']?\s*:\s*["']?(search|combination)/|extends["']?\s*:)""", re.MULTILINE)
_HAS_TESTS = re.compile(r"""^\s*["']?tests["']?\s*:""", re.MULTILINE)


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of the plugin."""
    group = parser.getgroup("modelbuilder", "specs under test")
    group.addoption("--full", action="store_true", help="also tests of specs that simulate many events")
    group.addoption("--update-locks", action="store_true", help="write the lock files of specs anew")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """Collect files that say they are a search."""
    if file_path.suffix not in (".yaml", ".yml", ".json"):
        return None
    try:
        text = file_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if not _IS_SPEC.search(text):
        return None
    from modelbuilder.regression.lock import LOCK_ENDING

    is_lock = file_path.name.endswith(LOCK_ENDING)  # which holds a spec
    if is_lock or not (_HAS_TESTS.search(text) or _has_lock(file_path) or _writes_locks(parent)):
        return None
    return SpecFile.from_parent(parent, path=file_path)


def _has_lock(spec: Path) -> bool:
    from modelbuilder.regression.lock import lock_path

    return lock_path(spec).is_file()


def _writes_locks(node: pytest.Collector) -> bool:
    return bool(node.config.getoption("--update-locks"))


class SpecFile(pytest.File):
    """A spec with its tests and its lock file."""

    _search: Loaded | None = None
    _checked: dict[int, Checked] | None = None

    def collect(self) -> Iterable[pytest.Item]:
        """The lock file first, then the tests in their order."""
        if _has_lock(self.path) or _writes_locks(self):
            yield LockItem.from_parent(self, name="lock")
        for index, test in enumerate(self.search.spec.tests):
            where = ",".join(f"{name}={value}" for name, value in test.at.items())
            yield ExpectationItem.from_parent(self, name=f"{index}-{test.quantity}-{where}", index=index)

    @property
    def search(self) -> Loaded:
        """The search, read once."""
        if self._search is None:
            from modelbuilder.spec.load import load_spec

            self._search = load_spec(self.path)
        return self._search

    def checked(self, index: int) -> Checked:
        """A test of the spec; all those that were chosen are run together, when the first one is asked for."""
        if self._checked is None:
            from modelbuilder.regression.check import check_search

            wanted = self._fast_enough()
            jobs = None if self.config.getoption("--full") else 1  # a process takes longer to start than these to run
            found = check_search(self.search, only=wanted, jobs=jobs) if wanted else []
            self._checked = dict(zip(wanted, found, strict=True))
        if index not in self._checked:
            from modelbuilder.regression.check import cost_of

            events = cost_of(self.search, self.search.spec.tests)
            pytest.skip(f"simulates {events:,} events; --full runs it")
        return self._checked[index]

    def _fast_enough(self) -> list[int]:
        """Of the tests that were chosen all, if together they are fast or with --full; else those of the signal alone."""
        from modelbuilder.regression.check import cost_of, only_signals

        chosen = {i.index for i in self.session.items if isinstance(i, ExpectationItem) and i.parent is self}
        tests = self.search.spec.tests
        light = [index for index in sorted(chosen) if only_signals(self.search, [tests[index]])]
        for indices in (sorted(chosen), light):
            if self.config.getoption("--full") or cost_of(self.search, [tests[index] for index in indices]) <= FAST:
                return indices
        return []


class _Failed(Exception):
    """A test of a spec that does not hold."""


class _Item(pytest.Item):
    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """Without a traceback: it is about the spec, not about code."""
        from modelbuilder.errors import UserError

        if isinstance(excinfo.value, _Failed | UserError):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """For the summary."""
        return self.path, None, f"{self.path.name}: {self.name}"


class ExpectationItem(_Item):
    """One of the `tests` of a spec."""

    def __init__(self, *, index: int, **others: Any) -> None:
        super().__init__(**others)
        self.index = index

    def runtest(self) -> None:
        """Compute and compare."""
        assert isinstance(self.parent, SpecFile)
        found = self.parent.checked(self.index)
        if not found.passed:
            why = f"\n{found.test.why}" if found.test.why else ""
            msg = f"MOVED  {found.line}{why}"
            raise _Failed(msg)


class LockItem(_Item):
    """The lock file of a spec: its values always; its numbers where they are fast or with --full, and bits are the same."""

    def runtest(self) -> None:
        """Compare with the lock file, or write it."""
        assert isinstance(self.parent, SpecFile)
        from modelbuilder.regression.check import cost_of_points
        from modelbuilder.regression.diff import spec_changes
        from modelbuilder.regression.lock import (
            lock_changes,
            lock_path,
            lock_points,
            locked_spec,
            made_alike,
            make_lock,
            read_lock,
            write_lock,
        )

        search, path = self.parent.search, lock_path(self.path)
        if self.config.getoption("--update-locks"):
            write_lock(path, make_lock(search, spec=self.path, points=lock_points(search)))
            return
        lock = read_lock(path)
        is_fast = cost_of_points(search, len(lock["points"])) <= FAST or self.config.getoption("--full")
        if not is_fast or not made_alike(lock):
            changes = list(spec_changes(lock["spec"], locked_spec(search)))
        else:
            points = [name for name in lock["points"] if name in {point.name for point in search.points}]
            jobs = None if self.config.getoption("--full") else 1
            changes = list(lock_changes(lock, make_lock(search, spec=self.path, points=points, jobs=jobs)))
        if changes:
            text = "\n".join(_lines(changes))
            msg = f"{path.name} says otherwise; if this is meant: pytest {self.path.name} --update-locks\n{text}"
            raise _Failed(msg)


def _lines(changes: Iterable[Any]) -> Iterator[str]:
    for change in changes:
        yield f"  {change.line()}"
