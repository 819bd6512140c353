"""Lock files: what a search says today, so that tomorrow can be compared with it.

A lock file stands beside its spec, `NAME.lock.json`. It holds the resolved spec, value by value, the digests of its
input files, versions and seeds, and for some points of the grid digests of templates and workspaces, yields and limits.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from modelbuilder.errors import InputFileError
from modelbuilder.regression.check import nearest_point, templates_at
from modelbuilder.regression.diff import (
    LOCK_SCHEMA,
    Change,
    aggregated,
    spec_changes,
    spec_leaves,
    table_changes,
    value_changes,
)
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import WORKSPACES, load_run, machine, versions, write_atomically
from modelbuilder.spec.grid import spread
from modelbuilder.spec.load import Loaded
from modelbuilder.spec.tree import walk
from modelbuilder.workspace.files import read_json

Json = dict[str, Any]
N_POINTS = 3
LOCK_ENDING = ".lock.json"


def lock_path(spec: Path) -> Path:
    """`a/b.yaml` has the lock file `a/b.lock.json`."""
    return spec.with_name(f"{spec.stem}{LOCK_ENDING}")


def input_files(search: Loaded) -> list[Path]:
    """The files that the values of a resolved spec come from, in the order of their names."""
    return sorted({Path(node.place.file) for _, node in walk(search.tree) if node.place.line})


def make_lock(
    search: Loaded, *, spec: Path, points: Sequence[str], jobs: int | None = None, cache: Path | None = None
) -> Json:
    """The content of a lock file. points: names of the grid points that are computed for it. cache: as of `run_search`."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        run_search(search, run, only=points, jobs=jobs, cache=cache)
        _, rows = load_run(run)
        return {
            "schema": LOCK_SCHEMA,
            "name": search.spec.name,
            "digest": search.digest,
            "inputs": {_beside(file, spec): _digest(file.read_bytes()) for file in input_files(search)},
            "versions": versions(),
            "machine": machine(),
            "seeds": {"simulation": search.spec.seed, "data": getattr(search.spec.data, "seed", None)},
            "spec": locked_spec(search),
            "points": {name: _point(search, run, name, rows) for name in points},
        }


def lock_points(search: Loaded) -> list[str]:
    """The grid points of a new lock file: those that the tests look at, else the first, a middle and the last one."""
    tested = [nearest_point(search, masses).name for test in search.spec.tests for masses in test.points()]
    return list(dict.fromkeys(tested)) or [point.name for point in spread(search.points, N_POINTS)]


def locked_spec(search: Loaded) -> dict[str, str | float | None]:
    """The values of a resolved spec that results depend on: all but its tests."""
    return {path: value for path, value in spec_leaves(search.tree).items() if not path.startswith("tests[")}


def _point(search: Loaded, run: Path, name: str, rows: Sequence[Mapping[str, Any]]) -> Json:
    templates = templates_at(search, run, name)
    return {
        "templates": _digest(templates.text.encode()),
        "workspace": _digest((run / WORKSPACES / f"{name}.json").read_bytes()),
        "yields": templates.yields,
        "limits": [dict(row) for row in rows if row["point"] == name],
    }


def made_alike(lock: Mapping[str, Any]) -> bool:
    """Whether numbers made now are to have the bits of those in a lock file: the same versions, on such a processor."""
    return bool(lock["versions"] == versions() and lock["machine"] == machine())


def write_lock(path: Path, lock: Mapping[str, Any]) -> None:
    """Write a lock file whole, in one form."""
    write_atomically(path, json.dumps(lock, indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def read_lock(path: Path) -> Json:
    """The content of a lock file. Raises InputFileError if it is none."""
    lock = read_json(path)
    keys = ("schema", "digest", "inputs", "versions", "machine", "spec", "points")
    if not isinstance(lock, dict) or lock.get("schema") != LOCK_SCHEMA or any(key not in lock for key in keys):
        msg = f"{path}: not a lock file ({LOCK_SCHEMA}); `modelbuilder lock SPEC` writes one"
        raise InputFileError(msg)
    return lock


def lock_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """What differs between two lock files: causes first, then yields and limits.

    Digests of input files are not compared: all that they hold is in the resolved spec, comments are not.
    """
    yield from spec_changes(before["spec"], after["spec"])
    yield from value_changes("version", *({**lock["versions"], "machine": lock["machine"]} for lock in (before, after)))
    one, two = before["points"], after["points"]
    for name in sorted(set(one) ^ set(two)):
        gone = name in one
        yield Change(kind="point", what=name, before="" if gone else None, after=None if gone else "")
    both = [name for name in one if name in two]
    yield from aggregated((name, value_changes("yield", *_named(one[name], two[name]))) for name in both)
    for name in both:
        silent = one[name]["templates"] != two[name]["templates"] and one[name]["yields"] == two[name]["yields"]
        if silent:
            yield Change(
                kind="yield", what=f"templates of {name}", before="one shape", after="another, of equal yields"
            )
    rows = ([row for name in both for row in points[name]["limits"]] for points in (one, two))
    yield from table_changes(*rows)


def _named(one: Mapping[str, Any], two: Mapping[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    first, second = ({f"{sample} [events]": float(v) for sample, v in point["yields"].items()} for point in (one, two))
    return first, second


def _beside(file: Path, spec: Path) -> str:
    """A path relative to the folder above that of the spec, where all experiments have theirs; else its name."""
    home, resolved = spec.resolve().parent.parent, file.resolve()
    return resolved.relative_to(home).as_posix() if resolved.is_relative_to(home) else resolved.name


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
