"""Why a build would simulate a grid point again, or would not: what its simulations depend on, then and now.

Nothing is simulated. What a simulation depends on is what a cache of simulations goes by. A change of a spec is a cause
if a simulation depends on something else when that change alone is made in the spec of the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from modelbuilder.errors import InputFileError, ModelBuilderError
from modelbuilder.histograms.cache import digest_of_inputs
from modelbuilder.regression.check import nearest_point
from modelbuilder.regression.diff import Change, spec_changes, spec_leaves, value_changes
from modelbuilder.regression.plan import Stage, affected
from modelbuilder.scan.points import points_of
from modelbuilder.scan.store import RUN, SPEC, finished_points, load_run, versions
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, spec_of
from modelbuilder.spec.tree import Mapping as Tree
from modelbuilder.spec.tree import Node, child, path_text, walk
from modelbuilder.spec.tree import Sequence as Items
from modelbuilder.workspace.files import read_json

Steps = tuple[str | int, ...]
_AFTER: tuple[Stage, ...] = ("workspaces", "limits")
"""What follows from simulations, and is computed for every run."""


@dataclass(frozen=True, kw_only=True)
class Cause:
    """A change, and where its new value stands, or for one that is gone stood: `file:line:column`; empty for a version."""

    change: Change
    place: str

    def line(self) -> str:
        """For a person."""
        return f"{self.change.line()}{f'  ({self.place})' if self.place else ''}"


@dataclass(frozen=True, kw_only=True)
class Part:
    """A simulated sample of a point, its pseudo-data, the workspaces or the limits.

    again: whether it differs from that of the run.    causes: of that; none where the run has no such part.
    """

    name: str
    again: bool
    causes: tuple[Cause, ...]


@dataclass(frozen=True, kw_only=True)
class Why:
    """What would be made again of a grid point. has_point, finished: of the run; without the point there are no parts."""

    point: str
    run: str
    has_point: bool
    finished: bool
    parts: tuple[Part, ...]

    @property
    def nothing(self) -> bool:
        """Whether all that the run has of the point is as the spec asks for it."""
        return self.finished and not any(part.again for part in self.parts)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "point": self.point,
            "run": self.run,
            "in_run": self.has_point,
            "finished": self.finished,
            "nothing": self.nothing,
            "parts": [
                {
                    "part": part.name,
                    "again": part.again,
                    "causes": [{**asdict(cause.change), "place": cause.place} for cause in part.causes],
                }
                for part in self.parts
            ],
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        yield f"{self.point}, against {self.run}"
        if not self.has_point:
            yield "new     the run has no such point"
        elif not self.finished:
            yield "new     the run has no limits at this point"
        for cause in dict.fromkeys(cause for part in self.parts for cause in part.causes):
            yield f"changed {cause.line()}"
            yield f"again     {', '.join(part.name for part in self.parts if cause in part.causes)}"
        for text, names in (
            ("again   not in the run: ", [part.name for part in self.parts if part.again and not part.causes]),
            ("same    ", [part.name for part in self.parts if not part.again]),
        ):
            if names:
                yield text + ", ".join(names)
        if self.nothing:
            yield "nothing to do: the point is what the spec asks for"


def find_why(search: Loaded, run: Path, point: str) -> Why:
    """Compare what a point depends on with a run. point: name, or a mass in GeV on a grid of one mass.

    Raises RunDirectoryError if that is no run, InputFileError if there is no such point.
    """
    place = find_point(search, point)
    before, _ = load_run(run)
    old_point = next((other for other in before.points if other.name == place.name), None)
    of_versions = list(value_changes("version", read_json(run / RUN)["versions"], versions()))
    now = _digests(search, place.name)
    changes = list(spec_changes(spec_leaves(before.tree), spec_leaves(search.tree)))
    causes = [Cause(change=change, place="") for change in of_versions]
    causes += [Cause(change=change, place=_place(change, before, search, run)) for change in changes]
    parts: list[Part] = []
    if old_point is not None:
        then = _digests(before, place.name)
        alone = {
            c.change.what: _digests_with(before, search, c.change, place.name) for c in causes if _counts(search, c)
        }
        parts = [_simulated(name, digest, then.get(name), causes, alone) for name, digest in now.items()]
        simulated = [cause for part in parts for cause in part.causes]
        for stage in _AFTER:
            own = tuple(c for c in causes if c in simulated or stage in affected(search, c.change))
            parts.append(Part(name=stage, again=bool(own), causes=own))
    return Why(
        point=place.name,
        run=str(run),
        has_point=old_point is not None,
        finished=place.name in finished_points(run),
        parts=tuple(parts),
    )


def find_point(search: Loaded, point: str) -> GridPoint:
    """A grid point by its name, or the nearest one to a mass in GeV. Raises InputFileError if there is none."""
    for found in search.points:
        if found.name == point:
            return found
    variables = list(search.points[0].values)
    try:
        mass = float(point) if len(variables) == 1 else None
    except ValueError:
        mass = None
    if mass is None:
        msg = f"no grid point is called {point!r} in {search.spec.name}; there is for example {search.points[0].name}"
        raise InputFileError(msg)
    return nearest_point(search, {variables[0]: mass})


def _simulated(
    name: str,
    digest: str,
    then: str | None,
    causes: Sequence[Cause],
    alone: Mapping[str, Mapping[str, str] | None],
) -> Part:
    """A simulated part. alone: digests of the parts with each change alone; None where that makes no spec."""
    found = [cause for cause in causes if cause.change.kind == "version"]
    if digest != then:
        for cause in causes:
            tried = alone.get(cause.change.what, {})
            if tried is None or (tried and tried.get(name) != then):
                found.append(cause)
        # changes that only together change anything
        found = found or [cause for cause in causes if cause.change.what in alone]
    return Part(name=name, again=bool(found) or digest != then, causes=tuple(found))


def _counts(search: Loaded, cause: Cause) -> bool:
    """Whether a change could matter to a simulation at all: titles, sources and names do not."""
    return cause.change.kind == "spec" and bool(affected(search, cause.change))


def _digests(search: Loaded, point: str) -> dict[str, str]:
    """Of all that is simulated for a point, by name."""
    place = next(found for found in search.points if found.name == point)
    return {name: digest_of_inputs(inputs) for name, inputs in points_of(search).inputs(place).items()}


def _digests_with(before: Loaded, after: Loaded, change: Change, point: str) -> dict[str, str] | None:
    """The same for the spec of a run with one change of another spec; None where that is no spec, or has no such point."""
    try:
        path = _path_of(change.what, after.tree) or _path_of(change.what, before.tree)
        if path is None:
            return None
        return _digests(spec_of(_with_part(before.tree, after.tree, path)), point)
    except (ModelBuilderError, LookupError, StopIteration):
        return None


def _path_of(what: str, tree: Tree) -> Steps | None:
    return next((path for path, _ in walk(tree) if path_text(path) == what), None)


def _with_part(tree: Tree, other: Tree, path: Steps) -> Tree:
    """A tree with what another one has at a path, or without it where that has nothing."""
    found = _replaced(tree, other, path)
    assert isinstance(found, Tree)
    return found


def _replaced(node: Node, other: Node, path: Steps) -> Node:
    """As `_with_part`. Raises LookupError where one of them has nothing above the path."""
    step, rest = path[0], path[1:]
    new = child(other, step)
    if rest:
        old = child(node, step)
        if old is None or new is None:
            raise LookupError(step)
        new = _replaced(old, new, rest)
    if isinstance(node, Tree):
        if new is None:
            return Tree({key: entry for key, entry in node.entries.items() if key != step}, node.place)
        return node.with_entry(str(step), new.place, new)
    if isinstance(node, Items) and isinstance(step, int):
        items = list(node.items)
        items[step : step + 1] = [] if new is None else [new]
        return Items(tuple(items), node.place)
    raise LookupError(step)


def _place(change: Change, before: Loaded, after: Loaded, run: Path) -> str:
    """Where the value stands that changed."""
    path = _path_of(change.what, after.tree)
    if path is not None:
        return str(after.place_of(*path))
    path = _path_of(change.what, before.tree)
    return f"{run / SPEC}:{before.place_of(*path).line}" if path is not None else ""
