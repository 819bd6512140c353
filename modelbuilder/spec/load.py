"""From files to a checked search: variants, overrides, references, then every check, with all problems at once."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import InputFileError, Problem, SpecError
from modelbuilder.spec import photon_reach
from modelbuilder.spec.base import shown
from modelbuilder.spec.checks import cross_check, missing_values, placed
from modelbuilder.spec.combination import (
    MAX_SEARCHES,
    CombinationSpec,
    CombinedGrid,
    DataOfSearches,
    combined_grid,
    findings,
)
from modelbuilder.spec.experiment import Experiment
from modelbuilder.spec.grid import GridError, GridPoint, expand_grid
from modelbuilder.spec.input_files import (
    ReadHistogram,
    content_of,
    digest_of_content,
    read_columns,
    read_hepdata,
    read_root_histogram,
    read_uhi,
)
from modelbuilder.spec.inputs import Events
from modelbuilder.spec.problems import nearest, validate
from modelbuilder.spec.search import Background, Data, PseudoData, SearchSpec
from modelbuilder.spec.tree import (
    Mapping,
    Node,
    Parsed,
    Place,
    Scalar,
    Sequence,
    child,
    load_tree,
    parse_scalar,
    path_text,
    plain,
    read_text,
    walk,
)

FloatArray = npt.NDArray[np.float64]

MAX_EXTENDS = 16
MAX_CELLS = 500_000
_NUMBER = re.compile(r"\s*[-+]?\.?[0-9]")
_EDITOR_KEY = "$schema"
_INDEX = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class LoadedSearch:
    """A search that passed all checks.

    tree: the resolved spec, each value with the place it came from.    points: the whole grid.
    digest: SHA-256 of the resolved spec, tables included, `tests` not; two specs with the same digest ask for the same.
    """

    spec: SearchSpec
    tree: Mapping
    points: tuple[GridPoint, ...]
    digest: str

    @functools.cached_property
    def missing_photons(self) -> dict[str, tuple[str, ...]]:
        """What the simulation of each background leaves out of photons that are not found, in words."""
        spec = self.spec
        return {
            name: tuple(photon_reach.warnings_of(background, spec.final_state, spec.experiment))
            for name, background in spec.backgrounds.items()
            if isinstance(background, Background)
        }

    def place_of(self, *path: str | int) -> Place:
        """Where a value stands, or the closest thing above it that stands anywhere."""
        return _closest(self.tree, path)

    def columns_of(self, path: tuple[str | int, ...]) -> dict[str, FloatArray]:
        """The columns of the events at a path of `spec.inputs`, read anew. Raises SpecError."""
        return _columns_of(self.spec, self.tree, path)


@dataclass(frozen=True)
class LoadedCombination:
    """A combination that passed all checks.

    tree, points, digest: as of a search; the tree holds all searches.
    searches: by name, with the data of the combination.    grid: which of them take part where.
    """

    spec: CombinationSpec
    tree: Mapping
    points: tuple[GridPoint, ...]
    digest: str
    searches: dict[str, LoadedSearch]
    grid: CombinedGrid

    def place_of(self, *path: str | int) -> Place:
        """Where a value stands, or the closest thing above it that stands anywhere."""
        return _closest(self.tree, path)

    def searches_at(self, point: GridPoint) -> dict[str, GridPoint]:
        """The searches that take part at a point of the combination, each with its own point there."""
        return self.grid.searches[point.name]


def _columns_of(spec: SearchSpec, tree: Mapping, path: tuple[str | int, ...]) -> dict[str, FloatArray]:
    events, digest = spec.inputs[path], _closest(tree, (*path, "sha256"))
    assert isinstance(events, Events)
    key = "parquet" if events.parquet is not None else "root"
    name = getattr(events, key)
    reason = "events are not kept with a run, this is its resolved spec; load the spec that was run"
    try:
        if Path(digest.file).name == Path(name).name:
            content = content_of(Path(digest.file))
            if digest_of_content(content) == events.sha256:
                return read_columns(content, events.columns, tree=events.tree)
            reason = "its SHA-256 is no longer what it was when the spec was read; load the spec again"
    except InputFileError as error:
        reason = str(error)
    raise SpecError((placed(tree, (*path, key), f"found {shown(name)}: {reason}"),))


def _closest(node: Node, path: tuple[str | int, ...]) -> Place:
    for step in path:
        below = child(node, step)
        if below is None:
            break
        node = below
    return node.place


Loaded = LoadedSearch | LoadedCombination


def load_search(path: Path | str, *, overrides: Iterable[str] = (), root: Path | None = None) -> LoadedSearch:
    """Read, resolve and check a search spec.

    overrides: texts `a.b=value`, as given to `--set`.    root: the folder that references must stay within; by default
    the folder named `specs`, or the one with a `.git` or `pyproject.toml`, above the file, or else that of the file.
    Raises SpecError with all problems, InputFileError if the file itself cannot be read.
    """
    return _checked_search(*resolve(Path(path), overrides=overrides, root=root))


def load_combination(path: Path | str, *, overrides: Iterable[str] = (), root: Path | None = None) -> LoadedCombination:
    """Read, resolve and check a combination spec and all its searches. Arguments and errors as of `load_search`."""
    return _checked_combination(*resolve(Path(path), overrides=overrides, root=root))


def load_spec(
    path: Path | str, *, overrides: Iterable[str] = (), root: Path | None = None, with_events: bool = True
) -> Loaded:
    """A search or a combination, as its `schema:` says; a search, if it says nothing. Otherwise as `load_search`.

    with_events: whether files of events are read and checked; those of a finished run may be elsewhere, or gone.
    """
    tree, problems = resolve(Path(path), overrides=overrides, root=root, with_events=with_events)
    return _checked(tree, problems, with_events=with_events)


def spec_of(tree: Mapping) -> Loaded:
    """The search or combination of a resolved tree. Raises SpecError."""
    return _checked(tree, [], with_events=True)


def _checked(tree: Mapping, problems: list[Problem], *, with_events: bool) -> Loaded:
    checked = _checked_combination if is_combination(tree) else _checked_search
    return checked(tree, problems, with_events=with_events)


def is_combination(tree: Mapping) -> bool:
    """Whether a tree calls itself a combination."""
    kind = tree.get("schema")
    return isinstance(kind, Scalar) and str(kind.value).startswith("combination/")


def _checked_search(tree: Mapping, problems: list[Problem], *, with_events: bool = True) -> LoadedSearch:
    spec, more = validate(SearchSpec, tree)
    more += cross_check(tree)
    if spec is not None and not problems and not more and with_events:
        more = _faults_of_events(spec, tree)
    if problems or more or spec is None:
        raise SpecError(_without_consequences(problems, more))
    points = expand_grid(spec.grid, spec.channels, spec.grid_where, spec.signal.lifetime)
    return LoadedSearch(spec, tree, points, _digest(tree))


def _faults_of_events(spec: SearchSpec, tree: Mapping) -> list[Problem]:
    """What is wrong with the columns of files of events."""
    found: list[Problem] = []
    for path, one in spec.inputs.items():
        if isinstance(one, Events):
            try:
                columns = _columns_of(spec, tree, path)
            except SpecError as error:
                found.extend(error.problems)
                continue
            weights = None if one.weight is None else columns[one.weight]
            if (path[0] == "data" or spec.in_plane) and weights is not None and (weights < 0.0).any():
                row = int((weights < 0.0).argmax())
                what = "data have" if path[0] == "data" else "events in a plane have"
                text = f"found {weights[row]:g} in row {row + 1} of {shown(one.weight)}; {what} no negative weights"
                found.append(placed(tree, (*path, "weight"), text))
    return found


def _checked_combination(tree: Mapping, problems: list[Problem], *, with_events: bool = True) -> LoadedCombination:
    spec, more = validate(CombinationSpec, tree)
    trees = _searches_in(tree)
    for name, below in trees.items():
        more += [_below_search(problem, name) for problem in cross_check(below)]
    if spec is not None and not problems and not more:
        more = [placed(tree, at, reason) for at, reason in findings(spec)]
    if spec is not None and not problems and not more and with_events:
        for name, search in spec.searches.items():
            more += [_below_search(problem, name) for problem in _faults_of_events(search, trees[name])]
    if problems or more or spec is None:
        raise SpecError(_without_consequences(problems, more))
    searches = {}
    for index, (name, search) in enumerate(spec.searches.items()):
        below, points = (
            trees[name],
            expand_grid(search.grid, search.channels, search.grid_where, search.signal.lifetime),
        )
        own = search.model_copy(update={"data": _data_of(spec, search, index)})
        searches[name] = LoadedSearch(own, below, points, _digest(below))
    try:
        grid = combined_grid(spec, searches)
    except GridError as error:
        raise SpecError((placed(tree, error.at, str(error)),)) from None
    for name, member in searches.items():
        own_points = [found[name] for found in grid.searches.values() if name in found]
        more += [_below_search(problem, name) for problem in missing_values(member.spec, member.tree, own_points)]
    if more:
        raise SpecError(tuple(more))
    return LoadedCombination(spec, tree, grid.points, _digest(tree), searches, grid)


def _searches_in(tree: Mapping) -> dict[str, Mapping]:
    below = tree.get("searches")
    entries = below.entries if isinstance(below, Mapping) else {}
    return {name: node for name, (_, node) in entries.items() if isinstance(node, Mapping)}


def _data_of(spec: CombinationSpec, search: SearchSpec, index: int) -> Data:
    """The data of a search of a combination: its own, or independent of those of the others."""
    if isinstance(spec.data, DataOfSearches):
        return search.data
    if isinstance(spec.data, PseudoData):
        return PseudoData(kind="pseudo", seed=(spec.data.seed + index) % 2**63)
    return spec.data


def load_experiment(path: Path | str, *, root: Path | None = None) -> Experiment:
    """Read and check an experiment file. Raises SpecError or InputFileError."""
    tree, problems = resolve(Path(path), root=root)
    experiment, more = validate(Experiment, tree)
    if problems or more or experiment is None:
        raise SpecError(_without_consequences(problems, more))
    return experiment


def resolve(
    path: Path, *, overrides: Iterable[str] = (), root: Path | None = None, with_events: bool = True
) -> tuple[Mapping, list[Problem]]:
    """The tree of a spec with variants merged, overrides applied and references replaced by what they refer to.

    with_events: whether the files of events must be there; otherwise those whose digest is known need not.
    """
    resolver = _Resolver((root or default_root(path)).resolve(), with_events=with_events)
    tree = resolver.file(path, ())
    for override in overrides:
        tree = resolver.override(tree, override)
    resolved = resolver.references(tree, ())
    assert isinstance(resolved, Mapping)
    return resolved, resolver.problems


def default_root(path: Path) -> Path:
    """The folder that the references of a spec must stay within, unless the user names another one."""
    folder = path.resolve().parent
    for above in (folder, *folder.parents):
        if above.name == "specs" or (above / ".git").exists() or (above / "pyproject.toml").exists():
            return above
    return folder


def _digest(tree: Mapping) -> str:
    """Of a resolved spec without its tests, and those of its searches: they ask for nothing."""
    for name, below in _searches_in(tree).items():
        place, searches = tree.entries["searches"]
        assert isinstance(searches, Mapping)
        changed = searches.with_entry(name, searches.entries[name][0], _without(below, "tests"))
        tree = tree.with_entry("searches", place, changed)
    return digest_of(plain(_without(tree, "tests")))


def digest_of(value: object) -> str:
    """SHA-256 of a JSON-like value, in one canonical form."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _without_consequences(causes: list[Problem], others: list[Problem]) -> tuple[Problem, ...]:
    """All problems but those at or below a place where something was refused already: a null, or an unread file."""
    places = [cause.path.removesuffix(".csv").split(".columns")[0].split(".units")[0] for cause in causes]
    without_base = any(place.split(".")[-1] == "extends" for place in places)
    kept = [
        other
        for other in others
        if not any(_is_at_or_below(other.path, place) for place in places if place)
        and not (without_base and other.message.startswith("missing"))  # the other file may have it
    ]
    # A fault in a table that two parts refer to is one fault.
    once = {(p.file, p.line, p.column, p.message): p for p in reversed([*causes, *kept])}
    return tuple(once.values())


def _is_at_or_below(path: str, place: str) -> bool:
    return path == place or path.startswith((f"{place}.", f"{place}["))


def _below_experiment(problem: Problem, reference: Node) -> Problem:
    """A problem within the experiment file, with its path in the search; one with the reference itself as it is."""
    if problem.file == reference.place.file or problem.path == "experiment":
        return problem
    return replace(problem, path=f"experiment.{problem.path}" if problem.path else "experiment")


def _below_search(problem: Problem, name: str) -> Problem:
    """A problem within a search of a combination, with its path in the combination."""
    return replace(problem, path=f"searches.{name}.{problem.path}" if problem.path else f"searches.{name}")


class _Resolver:
    def __init__(self, root: Path, *, with_events: bool) -> None:
        self.root = root
        self.with_events = with_events
        self.problems: list[Problem] = []
        self.cells = 0

    def file(self, path: Path, chain: tuple[Path, ...]) -> Mapping:
        """The tree of a file, merged into the one that it extends."""
        parsed: Parsed = load_tree(path)
        self.problems.extend(parsed.problems)
        return self._extended(parsed.root, (*chain, path.resolve()))

    def _extended(self, tree: Mapping, chain: tuple[Path, ...]) -> Mapping:
        """A tree merged into the one that it extends; `chain` are the files on the way to it."""
        tree = _without(tree, _EDITOR_KEY)
        base = tree.entries.get("extends")
        if base is None:
            return tree
        tree = _without(tree, "extends")
        target = self._target(base[1], ("extends",))
        if target is None:
            return tree
        if target.resolve() in chain:
            names = " -> ".join(p.name for p in (*chain, target))
            self._add(base[1], ("extends",), f"found a cycle: {names}; a spec cannot extend itself")
            return tree
        if len(chain) >= MAX_EXTENDS:
            self._add(base[1], ("extends",), f"found more than {MAX_EXTENDS} files that extend one another")
            return tree
        below = self._loaded(target, chain, base[1], ("extends",))
        if below is None:
            return tree
        below = _without(below, "tests")  # what the other one expects of itself
        own = tree.get("experiment")
        if isinstance(own, Mapping):
            # another file, and nothing of that of the base; or changes of some values, which need the others
            below = _without(below, "experiment") if "extends" in own.entries else self._with_experiment(below)
        for name, changes in _searches_in(tree).items():
            if "extends" not in changes.entries:
                below = self._with_search(below, name, with_experiment="experiment" in changes.entries)
        return self._merged(below, tree, ())

    def _merged(
        self, base: Mapping, changes: Mapping, path: tuple[str | int, ...], source: Scalar | None = None
    ) -> Mapping:
        """`base` with the changes of a variant: mappings are merged, everything else is replaced, null removes.

        source: that of the numbers in `base`, which a number that changes must not inherit.
        """
        own = base.get("source")
        if isinstance(own, Scalar):
            source = None if "source" in changes.entries else own
        entries = dict(base.entries)
        for key, (place, value) in changes.entries.items():
            below = entries.get(key)
            at = path_text((*path, key))
            if isinstance(value, Scalar) and value.value is None:
                if entries.pop(key, None) is None:
                    self.problems.append(place.problem(at, f"there is no {key!r} to remove{nearest(key, entries)}"))
            elif below is not None and isinstance(below[1], Mapping) and isinstance(value, Mapping):
                entries[key] = (place, self._merged(below[1], value, (*path, key), source))
            else:
                entries[key] = (place, value)
                if source is not None and _is_number(value):
                    text = (
                        f"the number changes, but its source would stay {str(source.value)!r}; give `source:` beside it"
                    )
                    self.problems.append(place.problem(at, text))
        return Mapping(entries, changes.place)

    def _with_experiment(self, tree: Mapping) -> Mapping:
        """The tree with what the experiment file holds in place of its path, or below the changes that extend it."""
        entry = tree.entries.get("experiment")
        if entry is None:
            return tree
        place, reference = entry
        changes = None
        if isinstance(reference, Mapping):
            if "extends" not in reference.entries:
                return tree
            changes = _without(reference, "extends")
            reference = reference.entries["extends"][1]
        target = self._target(reference, ("experiment",))
        known = len(self.problems)
        below = self._loaded(target, (), reference, ("experiment",)) if target else None
        self.problems[known:] = [_below_experiment(problem, reference) for problem in self.problems[known:]]
        if below is not None and changes is not None:
            below = self._merged(below, changes, ("experiment",))
        return tree if below is None else tree.with_entry("experiment", place, below)

    def _with_search(self, tree: Mapping, name: str, *, with_experiment: bool) -> Mapping:
        """The tree of a combination with all of one search in place of its path, or of its changes to another."""
        searches = tree.get("searches")
        entry = searches.entries.get(name) if isinstance(searches, Mapping) else None
        if entry is None:
            return tree
        assert isinstance(searches, Mapping)
        key_place, node = entry
        known = len(self.problems)
        below: Mapping | None = None
        if isinstance(node, Mapping):
            below = self._extended(node, ())
        else:
            target = self._target(node, ())
            below = None if target is None else self._loaded(target, (), node, ())
        if below is not None and with_experiment:
            below = self._with_experiment(below)
        self.problems[known:] = [_below_search(problem, name) for problem in self.problems[known:]]
        if below is None:
            return tree
        return tree.with_entry("searches", tree.entries["searches"][0], searches.with_entry(name, key_place, below))

    def _with_searches(self, tree: Mapping) -> Mapping:
        searches = tree.get("searches")
        names = list(searches.entries) if isinstance(searches, Mapping) else []
        for name in names[:MAX_SEARCHES]:
            tree = self._with_search(tree, name, with_experiment=True)
        return tree

    def _loaded(self, target: Path, chain: tuple[Path, ...], node: Node, path: tuple[str | int, ...]) -> Mapping | None:
        try:
            return self.file(target, chain)
        except InputFileError as error:
            self._add(node, path, f"found {shown(plain(node))}: {error}")
        except SpecError as error:  # nothing of the file can be used: that is the fault of this reference too
            self.problems.extend(replace(p, path=p.path or path_text(path)) for p in error.problems)
        return None

    def _target(self, node: Node, path: tuple[str | int, ...]) -> Path | None:
        """The file that a text refers to, relative to the file in which the text stands; None after a problem."""
        if not isinstance(node, Scalar) or not isinstance(node.value, str):
            self._add(node, path, f"found {shown(plain(node))}; expected the path of a file, relative to this one")
            return None
        home = Path(node.place.file).parent if node.place.line else Path()
        try:
            target = Path(os.path.normpath(home / node.value))
            is_inside, is_file = target.resolve().is_relative_to(self.root), target.is_file()
        except (OSError, ValueError, RuntimeError):  # a name that is too long, a null character, links in a circle
            self._add(node, path, f"found {shown(node.value)}, which cannot be the path of a file")
            return None
        if not is_inside:
            hint = "move it there, or allow more with --root"
            self._add(node, path, f"found {shown(node.value)}, which lies outside of {self.root}; {hint}")
            return None
        if target.is_dir():
            self._add(node, path, f"found {shown(node.value)}, which is a folder; expected a file")
            return None
        if not is_file:
            self._add(node, path, f"found {shown(node.value)}: no such file; it is looked up from {home.absolute()}")
            return None
        return target

    def _add(self, node: Node, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(node.place.problem(path_text(path), message))

    def override(self, tree: Mapping, text: str) -> Mapping:
        """The tree with one value replaced: `a.b=value`; items of lists by their index."""
        name, equals, value = text.partition("=")
        place = Place(f"--set {text}", 0, 0)
        words = name.strip().replace("[", ".").replace("]", "").split(".")
        steps: list[str | int] = [int(word) if _INDEX.fullmatch(word) else word for word in words]
        if not equals or "" in steps:
            reason = "not understood; write PATH=VALUE, as in luminosity.value='50 fb^-1'"
            self.problems.append(place.problem("", reason))
            return tree
        try:
            node = parse_scalar(value, place)
        except SpecError as error:
            self.problems.extend(error.problems)
            return tree
        if steps[0] == "experiment" and len(steps) > 1:
            tree = self._with_experiment(tree)
        if steps[0] == "searches" and len(steps) > 2:
            tree = self._with_search(tree, str(steps[1]), with_experiment=steps[2] == "experiment" and len(steps) > 3)
        replaced = self._replaced(tree, steps, node, place, ())
        if isinstance(replaced, Mapping) and steps[-1] != "source" and _is_number(node):
            owner = _owner_of_source(replaced, steps)
            if owner is not None:
                source = Scalar(f"assumption: --set {text}", place)
                replaced = self._replaced(replaced, [*owner, "source"], source, place, ())
        return replaced if isinstance(replaced, Mapping) else tree

    def _replaced(
        self, node: Node, steps: list[str | int], value: Node, place: Place, done: tuple[str | int, ...]
    ) -> Node:
        if not steps:
            return value
        step, rest = steps[0], steps[1:]
        below = child(node, step)
        if isinstance(node, Mapping) and (below is not None or not rest):
            key = str(step)
            if isinstance(value, Scalar) and value.value is None and not rest:
                return _without(node, key)
            new = value if below is None else self._replaced(below, rest, value, place, (*done, key))
            key_place = node.entries[key][0] if key in node.entries else place
            return node.with_entry(key, key_place, new)
        if isinstance(node, Sequence) and isinstance(step, int) and below is not None:
            new = self._replaced(below, rest, value, place, (*done, step))
            return Sequence((*node.items[:step], new, *node.items[step + 1 :]), node.place)
        where = path_text(done) or "the spec"
        if isinstance(node, Mapping):
            known = f"{where}{nearest(str(step), node.entries)}"
        elif isinstance(node, Sequence):
            known = f"{where}, a list of {len(node.items)}; items are counted from 0"
        else:
            known = f"{where}, which is {shown(node.value)}"
        self.problems.append(place.problem("", f"there is no {step!r} in {known}"))
        return node

    def references(self, node: Node, path: tuple[str | int, ...]) -> Node:
        """The tree with the experiment file, all CSV files and all histograms read in, and the digests of events."""
        if isinstance(node, Mapping):
            node = self._with_searches(self._with_experiment(node)) if not path else node
            if "csv" in node.entries:
                return self._csv(node, path)
            if len(path) > 2 and "files" in (path[-2], path[-3] if isinstance(path[-1], int) else ""):
                return self._input(node, path)
            entries = {
                key: (place, self.references(value, (*path, key))) for key, (place, value) in node.entries.items()
            }
            return Mapping(entries, node.place)
        if isinstance(node, Sequence):
            return Sequence(tuple(self.references(item, (*path, i)) for i, item in enumerate(node.items)), node.place)
        return node

    def _input(self, node: Mapping, path: tuple[str | int, ...]) -> Node:
        """A histogram from a file as the same with a `table`; events with the SHA-256 of their file."""
        keys = [key for key in ("root", "uhi", "hepdata", "parquet") if key in node.entries]
        if len(keys) != 1:
            return node  # reported by the model
        (key,) = keys
        place, name = node.entries[key]
        is_events = key == "parquet" or "tree" in node.entries or "observables" in node.entries
        if is_events and not self.with_events and "sha256" in node.entries:
            return node
        target = self._target(name, (*path, key))
        if target is None:
            return node
        try:
            if is_events:
                return self._with_digest(node, target, place, path)
            found = _read_histogram(key, target, node)
        except InputFileError as error:
            self._add(name, (*path, key), f"found {shown(plain(name))}: {error}")
            return node
        except SpecError as error:
            self.problems.extend(replace(problem, path=path_text((*path, key))) for problem in error.problems)
            return node
        if found is None:
            return node
        units = self._units(node, found, path, key)
        if units is None:
            return node
        self.cells += 4 * found.values.size
        if self.cells > MAX_CELLS:
            self._add(name, (*path, key), f"found more than {MAX_CELLS} cells in all tables together")
            return node
        gone = (key, "histogram", "columns", "unit", "error")
        rest = {other: entry for other, entry in node.entries.items() if other not in gone}
        return Mapping({"table": (place, _table_of(found, units, place, target)), **rest}, node.place)

    def _with_digest(self, node: Mapping, target: Path, place: Place, path: tuple[str | int, ...]) -> Node:
        digest = digest_of_content(content_of(target))
        stated = node.entries.get("sha256")
        if stated is not None and plain(stated[1]) != digest:
            text = f"found {shown(plain(stated[1]))}; the SHA-256 of {target.name} is {digest}"
            self._add(stated[1], (*path, "sha256"), text)
        return node.with_entry("sha256", place, Scalar(digest, Place(str(target), 1, 1)))

    def _units(self, node: Mapping, found: ReadHistogram, path: tuple[str | int, ...], key: str) -> list[str] | None:
        """Of the axes: those of the spec, or of the file; None after a problem."""
        own = node.get("unit")
        if own is None:
            if found.units is None:
                text = f"missing: unit; the {key} file does not say in which its axes are, as in {{unit: GeV}}"
                self._add(node, path, text)
                return None
            return list(found.units)
        units = [own] if isinstance(own, Scalar) else list(own.items) if isinstance(own, Sequence) else []
        texts = [unit.value for unit in units if isinstance(unit, Scalar) and isinstance(unit.value, str)]
        if len(texts) != len(found.edges):
            self._add(
                own, (*path, "unit"), f"found {shown(plain(own))}; expected a unit for each axis, {len(found.edges)}"
            )
            return None
        return texts

    def _csv(self, node: Mapping, path: tuple[str | int, ...]) -> Node:
        """A form with `csv`, `columns` and `units` as the same form with a `table`."""
        place, name = node.entries["csv"]
        columns, units = node.get("columns"), node.get("units")
        target = self._target(name, (*path, "csv"))
        if target is None or not isinstance(columns, Mapping) or not isinstance(units, Mapping):
            return node  # what is missing is reported by the model
        try:
            table = _read_columns(target)
        except InputFileError as error:
            self._add(name, (*path, "csv"), f"found {shown(plain(name))}: {error}")
            return node
        except SpecError as error:
            self.problems.extend(replace(problem, path=path_text((*path, "csv"))) for problem in error.problems)
            return node
        self.cells += sum(len(column) for column in table.values())
        if self.cells > MAX_CELLS:
            self._add(name, (*path, "csv"), f"found more than {MAX_CELLS} cells in all CSV files together")
            return node
        lists: dict[str, tuple[Place, Node]] = {}
        for key, (key_place, column) in columns.entries.items():
            found = plain(column)
            unit = plain(units.entries[key][1]) if key in units.entries else None
            if not isinstance(found, str) or found not in table:
                known = ", ".join(table)
                self._add(
                    column, (*path, "columns", key), f"found {shown(found)}; {target.name} has the columns {known}"
                )
            elif not isinstance(unit, str):
                self._add(units, (*path, "units"), f"no unit for {key!r}; give one, as in {{{key}: GeV}}")
            else:
                cells = tuple(
                    Scalar(f"{text} {unit}".strip(), Place(str(target), line, 1)) for line, text in table[found]
                )
                lists[key] = (key_place, Sequence(cells, column.place))
        rest = {key: entry for key, entry in node.entries.items() if key not in ("csv", "columns", "units")}
        return Mapping({"table": (place, Mapping(lists, name.place)), **rest}, node.place)


def _read_histogram(key: str, target: Path, node: Mapping) -> ReadHistogram | None:
    """None where the spec does not say of what; the model reports that. Raises InputFileError, SpecError."""
    own = {name: plain(value) for name, (_, value) in node.entries.items()}
    if key == "hepdata":
        columns, error = own.get("columns", {}), own.get("error")
        if not isinstance(columns, dict) or not all(isinstance(one, str) for one in (*columns.values(), error or "")):
            return None
        return read_hepdata(target, columns, error)
    name = own.get("histogram")
    if not isinstance(name, str):
        msg = f"it may hold several histograms; say which, as in {{{key}: {target.name}, histogram: NAME}}"
        raise InputFileError(msg)
    return read_root_histogram(target, name) if key == "root" else read_uhi(target, name)


def _table_of(found: ReadHistogram, units: list[str], place: Place, target: Path) -> Mapping:
    """One row for each bin, the second axis fastest. The numbers of events have the file as their place."""
    names = (("low", "high"), ("second_low", "second_high"))
    places = np.indices(found.values.shape).reshape(len(found.edges), -1)
    columns: dict[str, tuple[Place, Node]] = {}
    for axis, (edges, unit) in enumerate(zip(found.edges, units, strict=True)):
        for name, bins in zip(names[axis], (places[axis], places[axis] + 1), strict=True):
            cells = tuple(Scalar(f"{edge!r} {unit}".strip(), place) for edge in edges[bins].tolist())
            columns[name] = (place, Sequence(cells, place))
    inside = Place(str(target), 1, 1)
    numbers = {"events": found.values}
    if found.variances is not None:
        numbers["error"] = np.sqrt(found.variances)
    for name, values in numbers.items():
        cells = tuple(Scalar(value, inside) for value in values.ravel().tolist())
        columns[name] = (place, Sequence(cells, place))
    return Mapping(columns, place)


def _read_columns(path: Path) -> dict[str, list[tuple[int, str]]]:
    """The columns of a CSV file by the names in its header, each cell with its line. Raises InputFileError, SpecError."""
    lines = [
        (number, line)
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    try:
        rows = [row for _, line in lines for row in csv.reader([line.strip()], skipinitialspace=True)]
    except csv.Error as error:
        raise _table_fault(path, lines[0][0], f"not a table: {error}") from None
    if len(rows) < 2:
        raise _table_fault(path, 1, "no table; expected a header line with the names of the columns, then numbers")
    header = [name.strip() for name in rows[0]]
    columns: dict[str, list[tuple[int, str]]] = {name: [] for name in header}
    if len(columns) < len(header):
        raise _table_fault(path, lines[0][0], "found two columns of the same name")
    for (number, _), row in zip(lines[1:], rows[1:], strict=True):
        if len(row) != len(header):
            cells = "1 cell" if len(row) == 1 else f"{len(row)} cells"
            raise _table_fault(path, number, f"found {cells}; the header names {len(header)} columns")
        for name, cell in zip(header, row, strict=True):
            columns[name].append((number, cell.strip()))
    return columns


def _table_fault(path: Path, line: int, message: str) -> SpecError:
    return SpecError((Place(str(path), line, 1).problem("", message),))


def _without(tree: Mapping, key: str) -> Mapping:
    return Mapping({k: entry for k, entry in tree.entries.items() if k != key}, tree.place)


def _owner_of_source(tree: Mapping, steps: list[str | int]) -> list[str | int] | None:
    """The path of the deepest mapping on the way to a value that has a source: the one that speaks of the value."""
    owner: list[str | int] | None = None
    node: Node | None = tree
    for depth in range(len(steps) + 1):
        if isinstance(node, Mapping) and isinstance(node.get("source"), Scalar):
            owner = steps[:depth]
        node = child(node, steps[depth]) if node is not None and depth < len(steps) else None
    return owner


def _is_number(node: Node) -> bool:
    """Whether a value is, or holds, a number or quantity without a source of its own."""
    if isinstance(node, Mapping):
        return "source" not in node.entries and any(_is_number(value) for _, value in node.entries.values())
    if isinstance(node, Sequence):
        return any(_is_number(item) for item in node.items)
    if isinstance(node.value, str):
        return _NUMBER.match(node.value) is not None
    return isinstance(node.value, int | float) and not isinstance(node.value, bool)


def origins(tree: Mapping) -> dict[str, str]:
    """`path` to `file:line` for every scalar of a resolved spec."""
    return {path_text(path): str(node.place) for path, node in walk(tree) if isinstance(node, Scalar)}
