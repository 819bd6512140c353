"""What changed between two specs, runs, workspaces, lock files or bundles, in the words of the physics.

Numbers are equal if they are the same to `TOLERANCE`: two runs of one spec with one seed have the same bits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from modelbuilder.errors import InputFileError, UserError
from modelbuilder.scan.store import RUN, WORKSPACES, load_run
from modelbuilder.scan.table import CTAU
from modelbuilder.spec.load import resolve
from modelbuilder.spec.quantities import as_number
from modelbuilder.spec.tree import Mapping as Tree
from modelbuilder.spec.tree import Node, Scalar, plain, walk
from modelbuilder.spec.tree import path_text as text_of_path
from modelbuilder.workspace.files import read_json

Kind = Literal["spec", "version", "point", "parameter", "yield", "uncertainty", "data", "limit", "status"]
Value = float | str | None

TOLERANCE = 1e-12
"""Relative difference of numbers that count as equal."""
LOCK_SCHEMA = "lock/1"
_HEADINGS: dict[Kind, str] = {
    "spec": "spec",
    "version": "versions",
    "point": "grid points",
    "parameter": "parameters",
    "yield": "yields",
    "uncertainty": "uncertainties",
    "data": "data",
    "limit": "limits",
    "status": "status",
}


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that differs.

    what: a path of the spec, a sample, a parameter, a limit.    before, after: None where it is not there; where several
    points are affected, those of the point with the largest change, `at`.    relative: (after - before)/before, where
    both are numbers and `before` is not 0.    least: the smallest relative change of the points.    points: how many.
    """

    kind: Kind
    what: str
    before: Value
    after: Value
    relative: float | None = None
    least: float | None = None
    at: str | None = None
    points: int | None = None

    def line(self) -> str:
        """For a person."""
        if self.before is None:
            text = f"new: {_shown(self.after)}" if self.after != "" else "new"
        elif self.after is None:
            text = f"gone; it was {_shown(self.before)}" if self.before != "" else "gone"
        else:
            text = f"{_shown(self.before)} -> {_shown(self.after)}"
        if self.relative is not None:
            text += f" ({_per_cent(self.relative)})"
        if self.points is not None:
            one = self.points == 1
            text += f" at {self.at}" if one else f" at {self.at}; {self.points} points in all"
            if not one and self.least is not None and self.relative is not None and self.least != self.relative:
                text += f", from {_per_cent(self.least)} on"
        return f"{self.what}: {text}"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """All changes between two things of one kind."""

    kind: str
    changes: tuple[Change, ...]

    def as_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {"kind": self.kind, "equal": not self.changes, "changes": [asdict(change) for change in self.changes]}

    def lines(self) -> Iterator[str]:
        """For a person."""
        if not self.changes:
            yield f"equal: two {self.kind}s that say the same"
            return
        for kind, heading in _HEADINGS.items():
            chosen = [change for change in self.changes if change.kind == kind]
            if chosen:
                yield heading
                for change in chosen:
                    yield f"  {change.line()}"


def diff(before: Path, after: Path) -> Difference:
    """Compare two paths: specs, runs, workspaces, lock files or bundles.

    A spec can also be compared with a run or a lock file, by what these say of their spec. Raises UserError where the two
    cannot be compared, InputFileError or SpecError where one cannot be read.
    """
    kinds = kind_of(before), kind_of(after)
    if kinds == ("workspace", "workspace"):
        found = workspace_changes(read_json(before), read_json(after))
        return Difference(kind="workspace", changes=tuple(found))
    if kinds == ("run", "run"):
        return Difference(kind="run", changes=tuple(run_changes(before, after)))
    if kinds == ("lock", "lock"):
        from modelbuilder.regression.lock import lock_changes, read_lock

        return Difference(kind="lock file", changes=tuple(lock_changes(read_lock(before), read_lock(after))))
    if kinds == ("bundle", "bundle"):
        return Difference(kind="bundle", changes=tuple(bundle_changes(before, after)))
    if set(kinds) <= {"spec", "run", "lock"}:
        trees = [_spec_of(path, kind) for path, kind in zip((before, after), kinds, strict=True)]
        return Difference(kind="spec", changes=tuple(spec_changes(*trees)))
    msg = f"{before} is a {kinds[0]} and {after} a {kinds[1]}; give two of one kind"
    raise UserError(msg)


def kind_of(path: Path) -> Literal["spec", "run", "workspace", "lock", "bundle"]:
    """What there is at a path. Raises InputFileError where it is nothing that can be compared."""
    if path.is_dir():
        if (path / RUN).is_file():
            return "run"
        if (path / "submission.yaml").is_file() or any(path.rglob("patchset.json")):
            return "bundle"
        msg = f"{path}: neither a run ({RUN}) nor a bundle (submission.yaml)"
        raise InputFileError(msg)
    if path.suffix == ".json":
        content = read_json(path)
        if isinstance(content, dict) and "channels" in content:
            return "workspace"
        if isinstance(content, dict) and content.get("schema") == LOCK_SCHEMA:
            return "lock"
    elif not path.is_file():
        msg = f"{path}: no such file"
        raise InputFileError(msg)
    return "spec"


def _spec_of(path: Path, kind: str) -> Mapping[str, Value]:
    """The leaves of a spec by their paths."""
    if kind == "lock":
        from modelbuilder.regression.lock import read_lock

        return dict(read_lock(path)["spec"])
    if kind == "run":
        return spec_leaves(load_run(path)[0].tree)
    tree, problems = resolve(path)
    if problems:
        from modelbuilder.errors import SpecError

        raise SpecError(tuple(problems))
    return spec_leaves(tree)


# ---------------------------------------------------------------------------------------------------------------- specs


def spec_leaves(tree: Tree) -> dict[str, Value]:
    """Every value of a resolved spec, by its path; lists of plain values are one."""
    found: dict[str, Value] = {}
    inside: list[tuple[str | int, ...]] = []
    for path, node in walk(tree):
        if any(path[: len(outer)] == outer for outer in inside):
            continue
        if isinstance(node, Scalar):
            found[text_of_path(path)] = _plain(node)
        elif not _children(node):
            found[text_of_path(path)] = "{}" if isinstance(node, Tree) else "[]"
        elif not isinstance(node, Tree) and all(isinstance(item, Scalar) for item in node.items):
            found[text_of_path(path)] = json.dumps(plain(node), ensure_ascii=False)
            inside.append(path)
    return found


def _children(node: Node) -> bool:
    return bool(node.entries if isinstance(node, Tree) else getattr(node, "items", ()))


def _plain(node: Scalar) -> Value:
    value = node.value
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    return float(value) if isinstance(value, int | float) else value


def spec_changes(before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Change]:
    """Values that differ, came or went; a part that came or went as a whole is one change."""
    for path in _whole_parts(set(before) - set(after), set(after)):
        yield Change(kind="spec", what=path, before=_part(path, before), after=None)
    for path in _whole_parts(set(after) - set(before), set(before)):
        yield Change(kind="spec", what=path, before=None, after=_part(path, after))
    for path in sorted(set(before) & set(after)):
        one, two = before[path], after[path]
        if one != two:
            numbers = as_number(one), as_number(two)
            relative = None
            if numbers[0] is not None and numbers[1] is not None and numbers[0][1] == numbers[1][1]:
                if numbers[0][0] == numbers[1][0]:
                    continue  # 0.445 fb^-1 and 445 pb^-1
                relative = _relative(numbers[0][0], numbers[1][0])
            yield Change(kind="spec", what=path, before=one, after=two, relative=relative)


def _whole_parts(missing: set[str], others: set[str]) -> list[str]:
    """The paths, or the highest part above several of them that the other spec does not have at all."""
    found = set()
    for path in missing:
        steps = path.split(".")
        for length in range(1, len(steps) + 1):
            head = ".".join(steps[:length])
            if not any(other == head or other.startswith((f"{head}.", f"{head}[")) for other in others):
                found.add(head)
                break
    return sorted(found)


def _part(path: str, leaves: Mapping[str, Value]) -> Value:
    """The value at a path, or how many there are below it."""
    if path in leaves:
        return leaves[path]
    number = sum(leaf.startswith((f"{path}.", f"{path}[")) for leaf in leaves)
    return f"{number} values"


# ----------------------------------------------------------------------------------------------------------- workspaces


def workspace_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Change]:
    """Parameters that came and went, yields and uncertainties that changed, data."""
    measured = _facts(before), _facts(after)
    for kind in ("parameter", "yield", "uncertainty", "data"):
        one, two = ({k: v for (which, k), v in facts.items() if which == kind} for facts in measured)
        yield from value_changes(kind, one, two)


def value_changes(kind: Kind, before: Mapping[str, Value], after: Mapping[str, Value]) -> Iterator[Change]:
    """Values by name that differ."""
    for what in [*before, *(name for name in after if name not in before)]:
        one, two = before.get(what), after.get(what)
        if what not in after or what not in before:
            yield Change(kind=kind, what=what, before=one, after=two)
        elif isinstance(one, float) and isinstance(two, float):
            if not math.isclose(one, two, rel_tol=TOLERANCE, abs_tol=0.0):
                yield Change(kind=kind, what=what, before=one, after=two, relative=_relative(one, two))
        elif one != two:
            yield Change(kind=kind, what=what, before=one, after=two)


def _facts(workspace: Mapping[str, Any]) -> dict[tuple[str, str], Value]:
    """What a workspace says, by kind and name: numbers that stand for its bins, and how they are spread over them."""
    facts: dict[tuple[str, str], Value] = {}
    types: dict[str, set[str]] = {}
    for channel in workspace["channels"]:
        for sample in channel["samples"]:
            name = f"{channel['name']}/{sample['name']}"
            data = [float(value) for value in sample["data"]]
            total = math.fsum(data)
            facts["yield", f"{name} [events]"] = total
            shape = _centre(data)
            if shape is not None:
                facts["yield", f"{name}, mean bin"] = shape
            for modifier in sample["modifiers"]:
                types.setdefault(modifier["name"], set()).add(modifier["type"])
                for what, value in _sizes(modifier, data):
                    facts["uncertainty", f"{modifier['name']} on {name}{what}"] = value
    for parameter, kinds in sorted(types.items()):
        facts["parameter", parameter] = ", ".join(sorted(kinds))
    for measurement in workspace["measurements"]:
        config = measurement["config"]
        facts["parameter", f"poi of {measurement['name']}"] = config["poi"]
        for entry in config["parameters"]:
            for what, number in _settings(entry):
                facts["parameter", f"{what} of {entry['name']}"] = number
    for observation in workspace["observations"]:
        data = [float(value) for value in observation["data"]]
        facts["data", f"{observation['name']} [events]"] = math.fsum(data)
        shape = _centre(data)
        if shape is not None:
            facts["data", f"{observation['name']}, mean bin"] = shape
    return facts


def _settings(entry: Mapping[str, Any]) -> Iterator[tuple[str, Value]]:
    """What a measurement says of a parameter, number by number; of one with several components, each with its place."""
    titles = {"inits": "initial value", "auxdata": "auxiliary data", "sigmas": "width"}
    for key, title in titles.items():
        for place, number in enumerate(entry.get(key, ())):
            yield title if len(entry[key]) == 1 else f"{title} {place + 1}", float(number)
    for place, (low, high) in enumerate(entry.get("bounds", ())):
        which = "" if len(entry["bounds"]) == 1 else f" {place + 1}"
        yield f"lower bound{which}", float(low)
        yield f"upper bound{which}", float(high)
    if "fixed" in entry:
        yield "fixed", "yes" if entry["fixed"] else "no"


def _centre(data: Sequence[float]) -> float | None:
    """The mean bin, counted from 1, which moves when events do; None for one bin or none of events."""
    total = math.fsum(data)
    if len(data) < 2 or total <= 0.0:
        return None
    return math.fsum(place * value for place, value in enumerate(data, start=1)) / total


def _sizes(modifier: Mapping[str, Any], nominal: Sequence[float]) -> Iterator[tuple[str, float]]:
    """The sizes of an uncertainty in its own words; for shapes, summed changes relative to the sample."""
    data, total = modifier["data"], max(math.fsum(nominal), 1e-300)
    if modifier["type"] == "normsys":
        yield ", up", float(data["hi"]) - 1.0
        yield ", down", float(data["lo"]) - 1.0
    elif modifier["type"] == "histosys":
        for key, what in (("hi_data", ", up"), ("lo_data", ", down")):
            changes = [abs(float(varied) - value) for varied, value in zip(data[key], nominal, strict=True)]
            yield what, math.fsum(changes) / total
    elif modifier["type"] in {"staterror", "shapesys"}:
        yield "", math.sqrt(math.fsum(float(value) ** 2 for value in data)) / total


# ----------------------------------------------------------------------------------------------------- runs and bundles


def run_changes(before: Path, after: Path) -> Iterator[Change]:
    """Spec, versions, points, what their workspaces say, and limits."""
    (one, rows_one), (two, rows_two) = load_run(before), load_run(after)
    yield from spec_changes(spec_leaves(one.tree), spec_leaves(two.tree))
    about = [read_json(path / RUN) for path in (before, after)]
    yield from value_changes("version", about[0]["versions"], about[1]["versions"])
    yield from table_changes(rows_one, rows_two)
    workspaces = [_workspaces(path / WORKSPACES) for path in (before, after)]
    yield from _point_changes(set(workspaces[0]), set(workspaces[1]), "workspace of ")
    yield from aggregated(
        (name, workspace_changes(read_json(workspaces[0][name]), read_json(workspaces[1][name])))
        for name in workspaces[0]
        if name in workspaces[1] and workspaces[0][name].read_bytes() != workspaces[1][name].read_bytes()
    )


def bundle_changes(before: Path, after: Path) -> Iterator[Change]:
    """What the workspaces and patched workspaces of two bundles say. Tables of limits follow from these."""
    from modelbuilder.scan.target import targets_at

    def targets(path: Path) -> dict[str, tuple[Path, Path]]:
        return {file.parent.relative_to(path).as_posix(): (file.with_name("BkgOnly.json"), file)
                for file in sorted(path.rglob("patchset.json"))}  # fmt: skip

    def patched(base: Path, patchset: Path) -> dict[str, Any]:
        import jsonpatch

        return {str(t.name): jsonpatch.apply_patch(dict(t.workspace), list(t.patch or ()))
                for t in targets_at(base, patchset=patchset)}  # fmt: skip

    one, two = targets(before), targets(after)
    yield from _point_changes(set(one), set(two), "patchset in ")
    for name in one:
        if name not in two:
            continue
        first, second = patched(*one[name]), patched(*two[name])
        yield from _point_changes(set(first), set(second), "patch ")
        yield from aggregated((p, workspace_changes(first[p], second[p])) for p in first if p in second)


def _workspaces(path: Path) -> dict[str, Path]:
    return {file.stem: file for file in sorted(path.glob("*.json"))}


def _point_changes(before: set[str], after: set[str], of: str) -> Iterator[Change]:
    for name in sorted(before - after):
        yield Change(kind="point", what=f"{of}{name}", before="", after=None)
    for name in sorted(after - before):
        yield Change(kind="point", what=f"{of}{name}", before=None, after="")


def table_changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Change]:
    """Limits and other numbers of two tables of limits, by column and method."""
    one, two = ({(row["point"], row["method"], row.get(CTAU)): row for row in rows} for rows in (before, after))
    yield from _point_changes({key[0] for key in one}, {key[0] for key in two}, "limits of ")
    yield from aggregated((key[0], _row_changes(one[key], two[key])) for key in one if key in two)


def _row_changes(one: Mapping[str, Any], two: Mapping[str, Any]) -> Iterator[Change]:
    method = one["method"]
    skipped = {"point", "method", "channel", "data", "warnings", "confidence_level"}
    for column in [*one, *(c for c in two if c not in one)]:
        if column in skipped:
            continue
        kind: Kind = "status" if column == "status" else "limit"
        numbers = [row.get(column) for row in (one, two)]
        values = [float(v) if isinstance(v, int | float) else v for v in numbers]
        if values[0] is None and values[1] is None:
            continue
        named = [{} if value is None else {f"{column}, {method}": value} for value in values]
        yield from value_changes(kind, *named)


def aggregated(by_point: Iterable[tuple[str, Iterable[Change]]]) -> Iterator[Change]:
    """Changes of many points, each thing once: with the point where it changed most, and how many there are."""
    groups: dict[tuple[Kind, str], list[tuple[str, Change]]] = {}
    for point, changes in by_point:
        for change in changes:
            groups.setdefault((change.kind, change.what), []).append((point, change))
    for found in groups.values():
        at, largest = max(found, key=lambda item: math.inf if item[1].relative is None else abs(item[1].relative))
        sizes = [change.relative for _, change in found if change.relative is not None]
        yield replace(largest, at=at, points=len(found), least=min(sizes, key=abs) if sizes else None)


def _relative(before: float, after: float) -> float | None:
    return (after - before) / abs(before) if before != 0.0 else None


def _per_cent(relative: float) -> str:
    return f"{100.0 * relative:+.3g} %"


def _shown(value: Value) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
