"""The combination file: several searches, one likelihood, one coupling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Discriminator, Field

from modelbuilder.spec.base import FileName, Name, SpecModel, WholeNumber
from modelbuilder.spec.comparisons import Comparisons, faults_of_comparisons
from modelbuilder.spec.expectations import Expectation
from modelbuilder.spec.grid import DECIMALS, GridError, GridPoint, channel_of, expand_axis, point_name, resolution_at
from modelbuilder.spec.problems import nearest
from modelbuilder.spec.search import (
    AsimovData,
    GridAxis,
    LuminositySystematic,
    ObservedData,
    PseudoData,
    SearchSpec,
    SpuriousSignal,
    Statistics,
)

if TYPE_CHECKING:
    from modelbuilder.spec.load import LoadedSearch

MAX_SEARCHES = 20
ALL = "all"
"""The channel of a simultaneous fit, as tables name it."""
Finding = tuple[tuple[str | int, ...], str]


class DataOfSearches(SpecModel):
    """The measured data that each search has."""

    kind: Literal["observed"] = Field(description="the measured data that each search has")


DataOfCombination = Annotated[PseudoData | AsimovData | DataOfSearches, Discriminator("kind")]


class CombinationSpec(SpecModel):
    """Several searches as one likelihood with one coupling."""

    schema_: Literal["combination/1"] = Field(alias="schema", description="the version of this format: combination/1")
    name: FileName = Field(description="short name for files, such as dark-photon-babar-belle2")
    title: str = Field(description="for people, in a line")
    papers: list[str] = Field(default_factory=list, description="such as arXiv:2007.13071")
    notes: str | None = Field(None, description="what a reader should know about the combination")
    seed: WholeNumber = Field(1, ge=0, lt=2**63, description="of toys; the searches are simulated with their own seeds")
    searches: dict[Name, SearchSpec] = Field(
        min_length=1,
        max_length=MAX_SEARCHES,
        description="the searches by name: paths, or variants of a search written in place",
    )
    parameter: Name = Field(
        description="the interpretation that all searches have, whose coupling is one and the same in all of them"
    )
    grid: dict[Name, GridAxis] = Field(
        min_length=1,
        max_length=1,
        description="the mass hypotheses; a search takes part where it has a grid of its own",
    )
    separate: list[str] = Field(
        default_factory=list, description="systematics that are not shared, though their names are the same"
    )
    statistics: Statistics
    data: DataOfCombination = Field(
        description="the data of all searches; the first one has the pseudo-data of `seed`, the next of seed + 1; observed: "
        "each search has its own"
    )
    comparisons: Comparisons
    tests: list[Expectation] = Field(
        default_factory=list, description="what the combination expects of itself; `modelbuilder check` looks"
    )

    @property
    def grid_variable(self) -> str:
        """The name of the mass that is scanned, such as `m_Ap`."""
        return next(iter(self.grid))

    @property
    def grid_variables(self) -> tuple[str, ...]:
        """The same, as of a search."""
        return tuple(self.grid)

    @property
    def shared_interpretations(self) -> list[str]:
        """The interpretations that all searches have, `parameter` first."""
        first, *others = self.searches.values()
        names = [name for name in first.interpretations if all(name in other.interpretations for other in others)]
        return sorted(names, key=lambda name: name != self.parameter)

    @property
    def has_one_rate(self) -> bool:
        """Whether the limit is also one on the rate: one process, and for a cross section the same beams."""
        first, *others = self.searches.values()
        model = first.interpretations[self.parameter]
        return all(
            other.experiment.beams == first.experiment.beams
            and (other.interpretations[self.parameter].model, other.interpretations[self.parameter].parameters)
            == (model.model, model.parameters)
            for other in others
        )


def takes_part(search: LoadedSearch, mass: float) -> bool:
    """Whether a mass (GeV) lies between the ends of the grid of a search, and in none of its gaps."""
    gaps = search.spec.grid[search.spec.grid_variable].gaps
    within = search.points[0].mass <= mass <= search.points[-1].mass
    return within and not any(gap.low < mass < gap.high for gap in gaps)


@dataclass(frozen=True)
class CombinedGrid:
    """The points of a combination. searches: for each point, by its name, the searches that take part and their points.

    gaps: ranges of mass, GeV, between neighbouring points, in which no search takes part or that are vetoed.
    """

    points: tuple[GridPoint, ...]
    searches: dict[str, dict[str, GridPoint]]
    gaps: tuple[tuple[float, float], ...]


def combined_grid(spec: CombinationSpec, searches: Mapping[str, LoadedSearch]) -> CombinedGrid:
    """The grid points at which a search takes part. Raises GridError."""
    variable = spec.grid_variable
    axis = spec.grid[variable]
    masses = expand_axis(variable, axis, lambda mass: _resolution(variable, searches, mass))
    kept: list[GridPoint] = []
    members: dict[str, dict[str, GridPoint]] = {}
    gaps = [(gap.low, gap.high) for gap in axis.gaps]
    previous: float | None = None
    empty = False
    for mass in masses:
        name = point_name({variable: mass})
        found = {
            member: _member_point(member, search, mass)
            for member, search in searches.items()
            if takes_part(search, mass)
        }
        if not found:
            empty = True
            continue
        if empty and previous is not None:
            gaps.append((previous, mass))
        previous, empty = mass, False
        point = GridPoint(0, name, ((variable, mass),), ALL)
        for ctau in _lifetimes(searches) or (None,):
            one = point if ctau is None else point.at_lifetime(ctau)
            kept.append(replace(one, index=len(kept)))
            members[one.name] = {member: replace(own, ctau=ctau) for member, own in found.items()}
    if not kept:
        msg = f"no search has a grid where this one has points, {masses[0]:g} to {masses[-1]:g} GeV"
        raise GridError(("grid", variable), msg)
    return CombinedGrid(tuple(kept), members, tuple(gaps))


def _lifetimes(searches: Mapping[str, LoadedSearch]) -> tuple[float, ...]:
    """The lifetimes that are scanned, cm, the same in all searches; none, if nothing flies."""
    lifetime = next(iter(searches.values())).spec.signal.lifetime
    return () if lifetime is None else tuple(lifetime.values)


def _member_point(member: str, search: LoadedSearch, mass: float) -> GridPoint:
    variable = search.spec.grid_variable
    try:
        channel = channel_of(search.spec.channels, {variable: mass})
    except GridError as error:
        raise GridError(("searches", member, *error.at), str(error)) from None
    if all(point.channel != channel for point in search.points):
        msg = f"at {mass:g} GeV it is the channel {channel}, in which this search has no point of its own"
        raise GridError(("searches", member, "channels", channel), msg)
    return GridPoint(0, point_name({variable: mass}), ((variable, mass),), channel)


def _resolution(variable: str, searches: Mapping[str, LoadedSearch], mass: float) -> float:
    """That of the first search that takes part at a mass; where none does, that at the closest end of a grid."""
    there = [name for name, search in searches.items() if takes_part(search, round(mass, DECIMALS))]
    there += [name for name, search in searches.items() if search.points[0].mass <= mass <= search.points[-1].mass]
    if not there:
        ends = [
            (abs(end.mass - mass), name, end.mass)
            for name, one in searches.items()
            for end in (one.points[0], one.points[-1])
        ]
        _, name, mass = min(ends)
        there = [name]
    try:
        return resolution_at(searches[there[0]].spec.channels, variable, mass)
    except GridError as error:
        raise GridError(("searches", there[0], *error.at), str(error)) from None


def findings(spec: CombinationSpec) -> Iterator[Finding]:
    """What is wrong between the searches of a combination, or between them and the rest."""
    yield from faults_of_comparisons(
        spec.comparisons, [spec.parameter, *spec.shared_interpretations], [spec.grid_variable]
    )
    for name, search in spec.searches.items():
        path = ("searches", name)
        start = next((other for other in spec.searches if name.startswith(f"{other}_")), None)
        if start is not None:
            reason = f"{start + '_'!r} is how the parameters of {start} begin; choose another name"
            yield path, reason
        if len(search.grid) > 1:
            yield (*path, "grid"), "it scans two masses; the searches of a combination scan one"
            return
        if search.grid_variable != spec.grid_variable:
            reason = f"it scans {search.grid_variable}, the combination {spec.grid_variable}; all searches scan the same mass"
            yield (*path, "grid"), reason
        interpretation = search.interpretations.get(spec.parameter)
        if interpretation is None:
            known = nearest(spec.parameter, search.interpretations) or "; it has none"
            yield ("parameter",), f"found {spec.parameter!r}, which {name} does not interpret its limit in{known}"
            continue
        if not interpretation.theory.power:
            reason = (
                f"with the model {interpretation.model} the signal is no power of the coupling, so that one signal strength"
                " cannot stand for it in several searches"
            )
            yield (*path, "interpretations", spec.parameter), reason
        if isinstance(spec.data, DataOfSearches) and not isinstance(search.data, ObservedData):
            yield (
                (*path, "data"),
                f"found {search.data.kind}; the data of the combination are those observed in each search",
            )
        if not search.backgrounds:
            yield (*path, "backgrounds"), "there is none; without one no limit can be found"
    found = {
        one.interpretations[spec.parameter].theory.power: name
        for name, one in spec.searches.items()
        if spec.parameter in one.interpretations
    }
    if len(found) > 1 and None not in found and 0 not in found:
        text = ", ".join(f"{power} in {name}" for power, name in found.items())
        yield ("parameter",), f"the signal is proportional to different powers of {spec.parameter}: {text}"
    yield from _findings_of_lifetimes(spec)
    yield from _findings_of_names(spec)


def _findings_of_lifetimes(spec: CombinationSpec) -> Iterator[Finding]:
    """One likelihood at each lifetime needs the same lifetimes in all searches."""

    def scanned(search: SearchSpec) -> tuple[str, list[float]] | None:
        lifetime = search.signal.lifetime
        return None if lifetime is None else (lifetime.of, lifetime.values)

    first, *others = spec.searches.items()
    for name, search in others:
        own, values = scanned(search), scanned(first[1])
        if own != values:
            found = ["none" if one is None else f"{len(one[1])} lifetimes of {one[0]}" for one in (own, values)]
            reason = (
                f"found {found[0]} in {name} and {found[1]} in {first[0]}, or other ones; all searches scan the same"
            )
            yield ("searches", name, "signal", "lifetime"), reason


def _findings_of_names(spec: CombinationSpec) -> Iterator[Finding]:
    """Systematics that are shared by mistake, and names that would collide in the likelihood."""
    owners: dict[str, list[str]] = {}
    for name, search in spec.searches.items():
        for systematic in search.systematics:
            owners.setdefault(systematic, []).append(name)
    for index, systematic in enumerate(spec.separate):
        if systematic not in owners:
            yield ("separate", index), f"found {systematic!r}, which no search has{nearest(systematic, owners)}"
        elif len(owners[systematic]) == 1 and len(spec.searches) > 1:
            yield (
                ("separate", index),
                f"only {owners[systematic][0]} has {systematic!r}, so nothing shares it; remove it",
            )
    for systematic, names in owners.items():
        kinds = {isinstance(spec.searches[name].systematics[systematic], LuminositySystematic) for name in names}
        if len(kinds) > 1:
            reason = f"it is a luminosity in one search and something else in another ({', '.join(names)}); rename one"
            yield ("searches", names[-1], "systematics", systematic), reason
    luminosities = {luminosity_name(search) for search in spec.searches.values()}
    for name, search in spec.searches.items():
        for systematic, row in search.systematics.items():
            path = ("searches", name, "systematics", systematic)
            if systematic in luminosities and not isinstance(row, LuminositySystematic):
                yield path, f"{systematic!r} is the name of the luminosity of an experiment in a combination; rename it"
            if not is_own(spec, row, systematic):
                for other in (other for other in spec.searches if _has_parameter(spec, other, systematic)):
                    yield (
                        path,
                        f"{systematic!r} is the name of a parameter that only {other} has; rename it, or the search",
                    )


def _has_parameter(spec: CombinationSpec, name: str, parameter: str) -> bool:
    """Whether a parameter is one of those that begin with the name of a search, and that it alone has."""
    search = spec.searches[name]
    own = [key for key, row in search.systematics.items() if is_own(spec, row, key)]
    free = tuple(f"{name}_{background}_" for background in search.backgrounds)
    return parameter in {f"{name}_{key}" for key in (luminosity_name(search), *own)} or parameter.startswith(free)


def shared_systematics(spec: CombinationSpec) -> dict[str, list[str]]:
    """Nuisance parameters that more than one search has, with the searches."""
    owners: dict[str, list[str]] = {}
    for name, search in spec.searches.items():
        for systematic, row in search.systematics.items():
            if not is_own(spec, row, systematic):
                parameter = luminosity_name(search) if isinstance(row, LuminositySystematic) else systematic
                owners.setdefault(parameter, []).append(name)
    return {name: found for name, found in owners.items() if len(found) > 1}


def luminosity_name(search: SearchSpec) -> str:
    """The parameter of the luminosity in a combination: one per experiment, such as `lumi_babar`."""
    return f"lumi_{search.experiment.name}"


def is_own(spec: CombinationSpec, systematic: object, name: str) -> bool:
    """Whether a systematic has a parameter of its own in each search: named in `separate`, or of one fitted shape."""
    return name in spec.separate or isinstance(systematic, SpuriousSignal)
