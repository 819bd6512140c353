"""The run directory: what is written, when, and to which spec it belongs.

Finished points are appended to `points.jsonl`, one line each, as they come; a line that was cut short by a killed
process is dropped when the run resumes. Every other file is written whole and moved into place.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from modelbuilder import __version__
from modelbuilder.errors import RunDirectoryError
from modelbuilder.scan import table
from modelbuilder.scan.lifetimes import with_couplings
from modelbuilder.scan.points import columns_of
from modelbuilder.spec.emit import to_yaml
from modelbuilder.spec.load import Loaded, load_spec
from modelbuilder.spec.summary import count_sources
from modelbuilder.workspace.files import read_json

RUN = "run.json"
SPEC = "spec.resolved.yaml"
JOURNAL = "points.jsonl"
LINT = "lint.txt"
TEMPLATES = "templates"
WORKSPACES = "workspaces"
FIGURES = "figures"
_LOCK = ".lock"
_TEMPORARY = ".tmp"
_VERSIONED = ("numpy", "numba", "scipy", "pyhf", "hist", "boost-histogram")


def write_atomically(path: Path, text: str, *, through: bool = True) -> None:
    """Write a file so that it is either absent, or the old one, or complete; `through` also when the power fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{_TEMPORARY}")
    with temporary.open("w", encoding="utf-8", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        if through:
            os.fsync(stream.fileno())
    temporary.replace(path)


def versions() -> dict[str, str]:
    """Versions of everything that the numbers depend on."""
    return {"modelbuilder": __version__, **{name: version(name) for name in _VERSIONED}}


def machine() -> str:
    """What the last bits of numbers depend on besides: compiled code is made for the processor that it runs on."""
    from numba.core.registry import cpu_target

    _, processor, _ = cpu_target.target_context.codegen().magic_tuple()
    return f"{platform.system()} {platform.machine()} {processor}"


class RunDirectory:
    """A run directory that belongs to one resolved spec."""

    def __init__(self, path: Path, search: Loaded) -> None:
        self.path = path
        self.search = search
        self.done: dict[str, dict[str, Any]] = {}

    @classmethod
    @contextmanager
    def open_for(cls, path: Path, search: Loaded, *, command: str) -> Iterator[RunDirectory]:
        """The directory of a new run, or of one to be continued; only one process may work in it.

        Raises RunDirectoryError if it belongs to another spec or other versions, holds something else, or is in use.
        """
        run = cls(path, search)
        if path.exists() and not path.is_dir():
            msg = f"{path}: is a file; give the name of a directory for the run"
            raise RunDirectoryError(msg)
        run._refuse_foreign()  # before the lock, which leaves a file
        try:
            path.mkdir(parents=True, exist_ok=True)
            (path / _LOCK).touch()
        except OSError as error:
            msg = f"{path}: cannot be written: {error.strerror or error}; choose another directory"
            raise RunDirectoryError(msg) from None
        with _lock(path):
            run._adopt(command)
            yield run

    def _refuse_foreign(self) -> None:
        if (self.path / RUN).is_file() or not self.path.is_dir():
            return
        others = sorted(p.name for p in self.path.iterdir() if not p.name.startswith("."))
        if others:
            msg = f"{self.path}: holds {others[0]} but no {RUN}; it is not a run directory, choose another one"
            raise RunDirectoryError(msg)

    def _adopt(self, command: str) -> None:
        self._refuse_foreign()
        old = self._about()
        if old is None:
            self._write_about(started=_now(), finished=None, command=command)
            write_atomically(self.path / SPEC, to_yaml(self.search.tree))
            return
        if old["digest"] != self.search.digest:
            msg = (
                f"{self.path}: holds a run of another spec ({old['spec']}, digest {old['digest'][:12]}; "
                f"this one has {self.search.digest[:12]}; --set, --method, --cl and --seed change a spec); results are never "
                "mixed, choose another directory"
            )
            raise RunDirectoryError(msg)
        changed = {name: (old["versions"].get(name), new) for name, new in versions().items()}
        changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
        if changed:
            what = ", ".join(f"{name} {before} then, {now} now" for name, (before, now) in changed.items())
            msg = f"{self.path}: holds a run made with other versions ({what}); results are never mixed, choose another directory"
            raise RunDirectoryError(msg)
        for leftover in self.path.rglob(f".*{_TEMPORARY}*"):  # of a killed process: nobody else works here
            leftover.unlink()
        if not (self.path / SPEC).is_file():
            write_atomically(self.path / SPEC, to_yaml(self.search.tree))
        self.started = str(old["started"])
        self.command = command
        journal = self.path / JOURNAL
        if journal.is_file() and _whole_lines(journal) != journal.read_bytes():
            write_atomically(journal, _whole_lines(journal).decode("utf-8"))
        self.done = finished_points(self.path)

    def _about(self) -> dict[str, Any] | None:
        path = self.path / RUN
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            found["digest"], found["versions"], found["spec"], found["started"]
        except (OSError, ValueError, KeyError, TypeError):
            msg = f"{path}: not a description of a run; choose another directory"
            raise RunDirectoryError(msg) from None
        return dict(found)

    def _write_about(self, *, started: str, finished: str | None, command: str) -> None:
        self.started, self.command = started, command
        statuses = [row["status"] for entry in self.done.values() for row in entry["rows"]]
        about = {
            "spec": self.search.spec.name,
            "digest": self.search.digest,
            "seed": self.search.spec.seed,
            "data": self.search.spec.data.model_dump(exclude={"files"}),
            "sources": count_sources(self.search),
            "versions": versions(),
            "python": platform.python_version(),
            "command": command,
            "started": started,
            "finished": finished,
            "points": {"grid": len(self.search.points), "done": len(self.done)},
            "rows": {"ok": statuses.count("ok"), "failed": len(statuses) - statuses.count("ok")},
        }
        write_atomically(self.path / RUN, json.dumps(about, indent=1) + "\n")

    def append(self, entries: Sequence[Mapping[str, Any]]) -> None:
        """Record finished points, for good."""
        lines = [json.dumps(entry, allow_nan=False) + "\n" for entry in entries]
        for entry in entries:  # first: an interrupt during what follows must not cost the points
            self.done[str(entry["point"])] = dict(entry)
        with (self.path / JOURNAL).open("a", encoding="utf-8", newline="\n") as stream:
            stream.write("".join(lines))
            stream.flush()
            os.fsync(stream.fileno())

    def write_point_files(self, name: str, workspace: Mapping[str, Any], templates: str) -> None:
        """The workspace and the templates of a point; without templates it is one of many, not each written through."""
        write_atomically(self.path / WORKSPACES / f"{name}.json", json.dumps(workspace) + "\n", through=bool(templates))
        if templates:
            write_atomically(self.path / TEMPLATES / f"{name}.json", templates)

    def finish(self, *, complete: bool) -> None:
        """Put the journal in the order of the grid, and write the tables; an incomplete run has no time of its end."""
        order = [point.name for point in self.search.points if point.name in self.done]
        lines = [json.dumps(self.done[name], allow_nan=False) + "\n" for name in order]
        write_atomically(self.path / JOURNAL, "".join(lines))
        rows = with_couplings(self.search, (row for name in order for row in self.done[name]["rows"]))
        if rows:
            spec = self.search.spec
            head = columns_of(self.search)
            about = {
                "schema": "limits/1",
                "spec": spec.name,
                "title": spec.title,
                "digest": self.search.digest,
                "sources": count_sources(self.search),
            }
            write_atomically(self.path / "limits.csv", table.to_csv(head, rows))
            write_atomically(self.path / "limits.json", table.to_json(head, rows, about))
        lint = [f"{name}: {text}\n" for name in order for text in self.done[name]["lint"]]
        write_atomically(self.path / LINT, "".join(lint))
        self._write_about(started=self.started, finished=_now() if complete else None, command=self.command)


def load_run(path: Path) -> tuple[Loaded, list[dict[str, Any]]]:
    """The search, or combination, and the rows of a finished run. Raises RunDirectoryError."""
    if not (path / RUN).is_file() or not (path / SPEC).is_file():
        msg = f"{path}: not a run directory; `modelbuilder run SPEC -o {path}` makes one"
        raise RunDirectoryError(msg)
    search = load_spec(path / SPEC, with_events=False)
    table_file = path / "limits.json"
    rows = read_json(table_file)["rows"] if table_file.is_file() else []
    return search, rows


def finished_points(path: Path) -> dict[str, dict[str, Any]]:
    """The entries of a run's journal by their points. Raises RunDirectoryError where it is damaged."""
    journal = path / JOURNAL
    if not journal.is_file():
        return {}
    try:
        entries = [json.loads(line) for line in _whole_lines(journal).splitlines()]
        return {entry["point"]: entry for entry in entries}
    except (ValueError, KeyError, TypeError):
        msg = f"{journal}: damaged; remove the run directory and start again"
        raise RunDirectoryError(msg) from None


def _whole_lines(journal: Path) -> bytes:
    """Without a last line that a killed process cut short."""
    raw = journal.read_bytes()
    return raw[: raw.rfind(b"\n") + 1]


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    """Hold the directory for this process, where the platform can lock files."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with (path / _LOCK).open("w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            msg = f"{path}: another modelbuilder process is working in it"
            raise RunDirectoryError(msg) from None
        yield


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
