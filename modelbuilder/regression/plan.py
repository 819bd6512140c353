"""What a build would change: the spec against a run that exists, before anything is computed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from modelbuilder.regression.diff import Change, spec_changes, spec_leaves, value_changes
from modelbuilder.scan.store import RUN, finished_points, load_run, versions
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.workspace.files import read_json

Stage = Literal["simulation of the signal", "simulation of backgrounds", "data", "workspaces", "limits", "grid"]

_STAGES: tuple[Stage, ...] = (
    "grid",
    "simulation of the signal",
    "simulation of backgrounds",
    "data",
    "workspaces",
    "limits",
)
_ALL_SIMULATION = ("experiment", "radiation", "seed", "selection", "channels", "final_state")
_NOTHING = ("schema", "name", "title", "papers", "notes", "tests")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What differs between a spec and a run, and what follows.

    changes: of spec and versions.    stages: that would be computed again, in their order, each with the parts of the
    spec that ask for it.    new, gone: grid points that the run does not have, or the spec no more.    unfinished: of
    the points of both, those without a result.
    """

    run: str
    changes: tuple[Change, ...]
    stages: Mapping[Stage, tuple[str, ...]]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    unfinished: tuple[str, ...]

    @property
    def nothing_to_do(self) -> bool:
        """Whether a build would find everything as it is."""
        return not (self.stages or self.new or self.gone or self.unfinished)

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "run": self.run,
            "nothing_to_do": self.nothing_to_do,
            "changes": [asdict(change) for change in self.changes],
            "stages": {stage: list(causes) for stage, causes in self.stages.items()},
            "new": list(self.new),
            "gone": list(self.gone),
            "unfinished": list(self.unfinished),
        }

    def lines(self) -> Iterator[str]:
        """For a person."""
        for change in self.changes:
            yield f"changed     {change.line()}"
        for stage, causes in self.stages.items():
            shown = ", ".join(causes[:3]) + (f" and {len(causes) - 3} more" if len(causes) > 3 else "")
            yield f"again       {stage}: {shown}"
        for what, names in (("new", self.new), ("gone", self.gone), ("unfinished", self.unfinished)):
            if names:
                rest = f" ... {names[-1]}" if len(names) > 1 else ""
                yield f"{what:11} {len(names)} points: {names[0]}{rest}"
        if self.nothing_to_do:
            yield f"nothing to do: {self.run} is what the spec asks for"
        elif self.changes and self.stages:
            yield "the run belongs to another spec: build into another directory, results are never mixed"


def make_plan(search: Loaded, run: Path) -> Plan:
    """Compare a search with a run directory. Raises RunDirectoryError if that is none."""
    before, _ = load_run(run)
    found = list(spec_changes(spec_leaves(before.tree), spec_leaves(search.tree)))
    found += value_changes("version", read_json(run / RUN)["versions"], versions())
    names = {point.name for point in search.points}
    old = {point.name for point in before.points}
    done = finished_points(run)
    stages: dict[Stage, list[str]] = {}
    for change in found:
        for stage in affected(search, change):
            stages.setdefault(stage, []).append(change.what)
    return Plan(
        run=str(run),
        changes=tuple(found),
        stages={stage: tuple(stages[stage]) for stage in _STAGES if stage in stages},
        new=tuple(point.name for point in search.points if point.name not in old),
        gone=tuple(point.name for point in before.points if point.name not in names),
        unfinished=tuple(point.name for point in search.points if point.name in old and point.name not in done),
    )


def affected(search: Loaded, change: Change) -> tuple[Stage, ...]:
    """The stages that a change of a value asks for again."""
    if change.kind == "version":
        return _STAGES[1:]
    steps = change.what.replace("[", ".").split(".")
    head = steps[0]
    if isinstance(search, LoadedCombination):
        if head == "searches" and len(steps) > 2 and steps[1] in search.searches:
            return affected(search.searches[steps[1]], replace(change, what=change.what.split(".", 2)[2]))
        if head in ("searches", "parameter", "separate"):
            return _STAGES
    if head in _NOTHING or steps[-1] in ("source", "title", "why"):
        return ()
    if head in _ALL_SIMULATION:
        grid: tuple[Stage, ...] = ("grid",) if "resolution" in change.what else ()
        return (*grid, *_STAGES[1:])
    if head == "grid":
        return _STAGES
    if head == "signal":
        return ("simulation of the signal", "workspaces", "limits")
    if head == "backgrounds":
        simulated = steps[2:3] not in (["rate"], ["shape"])
        return (("simulation of backgrounds", "data") if simulated else ()) + ("workspaces", "limits")
    if head == "systematics":
        assert isinstance(search, LoadedSearch)
        systematic = search.spec.systematics.get(steps[1]) if len(steps) > 1 else None
        if systematic is not None and systematic.kind == "shape":
            on = getattr(systematic, "on", [])
            signal: tuple[Stage, ...] = ("simulation of the signal",) if "signal" in on else ()
            others: tuple[Stage, ...] = ("simulation of backgrounds",) if set(on) - {"signal"} else ()
            return (*signal, *others, "workspaces", "limits")
        return ("workspaces", "limits")
    if head == "luminosity":
        return ("workspaces", "limits") if "uncertainty" in steps else ("data", "workspaces", "limits")
    if head == "data":
        return ("data", "workspaces", "limits")
    if head in ("statistics", "interpretations"):
        return ("limits",)
    return _STAGES[1:]
