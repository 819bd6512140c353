"""The grid points of a search or of a combination: what a run makes of each, the same way for both."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from modelbuilder.errors import UserError
from modelbuilder.histograms.cache import SimulationCache
from modelbuilder.histograms.sideband import SUFFIX
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import PointTemplates, SampleTemplates, Template, histograms, to_uhi_json
from modelbuilder.scan.lifetimes import lifetime_of
from modelbuilder.scan.limited import Limited, agreeing, proportional
from modelbuilder.scan.point import (
    MadePoint,
    Reading,
    build_point,
    coupling_of,
    data_label,
    in_a_model,
    place_of,
    quantities_of,
    reading_at,
    reading_of,
)
from modelbuilder.scan.table import MU, Quantity, Row, columns, quantity_of, tail_of_combination, tail_of_search
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import Loaded, LoadedCombination, LoadedSearch
from modelbuilder.spec.search import SIGNAL, Background
from modelbuilder.workspace.build import build_channel, reference_rate
from modelbuilder.workspace.combine import combine

if TYPE_CHECKING:
    import hist


class Shared(Protocol):
    """What points share: backgrounds and data. It goes to the processes that work on them."""

    @property
    def points_at_a_time(self) -> int:
        """Points of one task: many, where each takes little time."""

    def files(self) -> Iterable[tuple[str, str]]:
        """Names and texts, for the folder of templates."""


class Points(Protocol):
    """Makes the points of one spec. simulations: by search, as `searches_of`."""

    @property
    def simulations(self) -> Mapping[str, Simulation]: ...

    def inputs(self, point: GridPoint) -> dict[str, object]:
        """What is simulated for a point, each with all that it depends on, as `cache.digest_of_inputs` takes it."""

    def shared(self, points: list[GridPoint]) -> Shared:
        """Simulate the backgrounds and the data that these points need."""

    def made(self, point: GridPoint, shared: Any) -> MadePoint:
        """Build the workspace of a point, with its signal; the same whichever other points there are."""


@dataclass(frozen=True)
class Backgrounds:
    """As `Shared`, by the name of their file."""

    regions: Mapping[str, RegionTemplates]
    points_at_a_time: int = 1
    """All lifetimes of a mass, which share a simulation, or one point."""

    def files(self) -> Iterator[tuple[str, str]]:
        """As `Shared`."""
        for name, templates in self.regions.items():
            region = templates.region
            edges, second = region.binning.edges, region.second
            found = histograms(templates.backgrounds, templates.observation, region.axis, edges, second)
            yield f"background_{name}.json", to_uhi_json(found)
            elsewhere = templates.elsewhere
            if elsewhere is not None:
                sample = SampleTemplates(Template(elsewhere.expected, np.zeros_like(elsewhere.expected)))
                beside = histograms({region.measured: sample}, elsewhere.observation, region.axis, edges, second)
                yield f"background_{name}{SUFFIX}.json", to_uhi_json(beside)


def points_of(loaded: Loaded, *, n_threads: int = 1, cache: SimulationCache | None = None) -> Points:
    """That of a search or of a combination. n_threads, cache: of its simulations; the result depends on neither."""
    if isinstance(loaded, LoadedCombination):
        return PointsOfCombination(loaded, n_threads=n_threads, cache=cache)
    if loaded.spec.in_plane:
        from modelbuilder.scan.plane import PointsInPlane

        return PointsInPlane(loaded, n_threads=n_threads, cache=cache)
    return PointsOfSearch(loaded, n_threads=n_threads, cache=cache)


def edges_csv(loaded: Loaded) -> str:
    """The bin edges of all channels, one in each row; those of a second observable after those of the first.

    Raises UserError for a search in a plane, which has no bins.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["channel", "observable", "unit", "edge"])
    for search, one in searches_of(loaded).items():
        if one.spec.in_plane:
            msg = f"{one.place_of('channels')}: channels: windows in a plane are ellipses, without bins"
            raise UserError(msg)
        regions = Simulation(one).regions.values()
        for region in {region.channel: region for region in regions}.values():
            channel = one.spec.line(region.channel)
            axes = [(channel.observable, region.axis, region.binning.edges)]
            if channel.second is not None and region.second is not None:
                axes.append((channel.second.observable, region.second.axis, region.second.edges))
            name = f"{search}/{region.channel}" if search else region.channel
            for text, axis, edges in axes:
                writer.writerows([name, text, axis.unit, repr(edge)] for edge in edges.tolist())
    return stream.getvalue()


def check_files(loaded: Loaded) -> None:
    """Raise SpecError where the bins of data or backgrounds from files do not fit those of the channels."""
    if not any(search.spec.inputs and not search.spec.in_plane for search in searches_of(loaded).values()):
        return
    for simulation in points_of(loaded).simulations.values():
        simulation.check_files()


def columns_of(loaded: Loaded) -> list[dict[str, str]]:
    """The columns of the table of limits."""
    variables, flies = loaded.spec.grid_variables, lifetime_of(loaded) is not None
    if isinstance(loaded, LoadedSearch):
        tail = tail_of_search(loaded.spec.rate, with_lifetime=flies)
        return columns(variables, quantities_of(loaded.spec), tail, with_lifetime=flies)
    first = next(iter(loaded.spec.searches.values()))
    coupling = coupling_of(loaded.spec.parameter, first.interpretations[loaded.spec.parameter])
    quantities = quantities_of_combination(loaded)
    return columns(variables, quantities, tail_of_combination(coupling), with_lifetime=flies)


def searches_of(loaded: Loaded) -> dict[str, LoadedSearch]:
    """The searches of a combination by name; a search alone has the empty name."""
    return {"": loaded} if isinstance(loaded, LoadedSearch) else loaded.searches


def experiments_of(loaded: Loaded) -> str:
    """For people: `Belle II`, or `BaBar + Belle II`."""
    return " + ".join(dict.fromkeys(search.spec.experiment.title for search in searches_of(loaded).values()))


def searches_at(loaded: Loaded, point: GridPoint) -> dict[str, GridPoint]:
    """The searches that take part at a point, by the same names, each with its own point there."""
    return {"": point} if isinstance(loaded, LoadedSearch) else loaded.searches_at(point)


class PointsOfSearch:
    """As `Points`."""

    def __init__(self, search: LoadedSearch, *, n_threads: int = 1, cache: SimulationCache | None = None) -> None:
        self.search = search
        self.simulation = Simulation(search, n_threads=n_threads, cache=cache)
        self.simulations = {"": self.simulation}

    def inputs(self, point: GridPoint) -> dict[str, object]:
        """As `Points`."""
        return dict(_inputs(self.simulation, point))

    def shared(self, points: list[GridPoint]) -> Backgrounds:
        """As `Points`."""
        regions = {region.name: region for region in map(self.simulation.region_of, points)}
        return Backgrounds({name: self.simulation.background(region) for name, region in regions.items()})

    def made(self, point: GridPoint, shared: Backgrounds) -> MadePoint:
        """As `Points`."""
        region = shared.regions[self.simulation.region_of(point).name]
        found = build_point(self.search, self.simulation, region, point)
        spec, lifetime = self.search.spec, self.search.spec.signal.lifetime
        readings = [reading_of(spec, found)]
        if lifetime is not None and lifetime.shape_at is not None:
            readings = [reading_at(spec, found, at) for at in self.simulation.at_lifetimes(region.region, point)]
        return MadePoint(
            point=point,
            workspace=found.built.workspace,
            lint=found.built.lint,
            templates=_histograms(found.templates),
            readings=readings,
            is_count=found.templates.sideband is not None,
        )


class PointsOfCombination:
    """As `Points`; the name of a search stands before those of its regions and templates."""

    def __init__(
        self, combination: LoadedCombination, *, n_threads: int = 1, cache: SimulationCache | None = None
    ) -> None:
        self.combination = combination
        self.simulations: dict[str, Simulation] = {}
        for name, search in combination.searches.items():
            own = tuple(found[name] for found in combination.grid.searches.values() if name in found)
            self.simulations[name] = Simulation(search, points=own, n_threads=n_threads, cache=cache)

    def inputs(self, point: GridPoint) -> dict[str, object]:
        """As `Points`."""
        own = self.combination.searches_at(point).items()
        return {
            f"{what} of {name}": found for name, place in own for what, found in _inputs(self.simulations[name], place)
        }

    def _regions(self, point: GridPoint) -> dict[str, str]:
        """The file of the background of each search that takes part."""
        own = self.combination.searches_at(point).items()
        return {name: f"{name}_{self.simulations[name].region_of(found).name}" for name, found in own}

    def shared(self, points: list[GridPoint]) -> Backgrounds:
        """As `Points`."""
        found: dict[str, RegionTemplates] = {}
        for point in points:
            for name, file in self._regions(point).items():
                if file not in found:
                    simulation = self.simulations[name]
                    found[file] = simulation.background(simulation.region_of(self.combination.searches_at(point)[name]))
        lifetime = lifetime_of(self.combination)
        return Backgrounds(found, points_at_a_time=1 if lifetime is None else len(lifetime.values))

    def made(self, point: GridPoint, shared: Backgrounds) -> MadePoint:
        """As `Points`.

        The reference is a power of the coupling, of one digit, with which the searches together expect to see about
        as many events as a limit leaves; each signal is normalised to the rate that this coupling gives it.
        """
        combination, spec = self.combination, self.combination.spec
        taking_part = combination.searches_at(point)
        rates = {name: _rate_of(combination.searches[name], spec.parameter, at) for name, at in taking_part.items()}
        # a decay that the model closes at this mass has nothing to say
        per_coupling = {name: rate for name, rate in rates.items() if rate > 0.0} or rates
        own = {name: taking_part[name] for name in per_coupling}
        templates: dict[str, PointTemplates] = {}
        files = self._regions(point)
        for name, at in own.items():
            region = shared.regions[files[name]]
            signal, efficiency = self.simulations[name].signal(region.region, at)
            templates[name] = region.at(at, signal, efficiency)
        signals = [per_coupling[name] * found.signal.nominal.values for name, found in templates.items()]
        expected = [sum(one.nominal.values for one in found.backgrounds.values()) for found in templates.values()]
        size = reference_rate(np.concatenate(signals), np.concatenate(expected))
        references = {name: size * rate for name, rate in per_coupling.items()}
        channels = {
            name: build_channel(combination.searches[name], own[name], found, references[name])
            for name, found in templates.items()
        }
        built = combine(spec, channels, point.name)
        power = next(iter(combination.searches.values())).spec.interpretations[spec.parameter].theory.power
        assert power is not None
        head: Row = {
            **place_of(point),
            "channel": point.channel,
            "confidence_level": spec.statistics.confidence_level,
            "data": data_label(spec.data),
            "background_events": built.background_yield,
            "searches": " ".join(own),
            f"reference_{spec.parameter}": size ** (1.0 / power),
        }
        return MadePoint(
            point=point,
            workspace=built.workspace,
            lint=built.lint,
            templates={
                f"{name}/{sample}": one
                for name, found in templates.items()
                for sample, one in _histograms(found).items()
            },
            readings=(Reading(head=head, limited=self._limited(own, references)),),
        )

    def _limited(self, own: Mapping[str, GridPoint], references: Mapping[str, float]) -> list[Limited]:
        """references: of each search that takes part, its rate at a signal strength of 1."""
        combination, spec = self.combination, self.combination.spec
        limited = [proportional(MU, 1.0)]
        if spec.has_one_rate:
            first = next(iter(spec.searches.values()))
            limited.append(proportional(quantity_of(first.rate), next(iter(references.values()))))
        for name in spec.shared_interpretations:
            if next(iter(spec.searches.values())).interpretations[name].theory.power == 0:
                continue  # known by the lifetime alone
            in_each = [
                in_a_model(combination.searches[search].spec, name, point, references[search])
                for search, point in own.items()
            ]
            limited.append(agreeing(in_each))
        return limited


def quantities_of_combination(combination: LoadedCombination) -> tuple[Quantity, ...]:
    """What a limit is given on: the coupling, and what is known of it in all searches."""
    spec = combination.spec
    first = next(iter(spec.searches.values()))
    rate = (quantity_of(first.rate),) if spec.has_one_rate else ()
    couplings = (coupling_of(name, first.interpretations[name]) for name in spec.shared_interpretations)
    return (MU, *rate, *couplings)


def _rate_of(search: LoadedSearch, name: str, point: GridPoint) -> float:
    """Of the signal for a coupling of 1 in an interpretation."""
    found = search.spec.interpretations[name]
    sqrt_s = search.spec.experiment.beams.sqrt_s
    return found.theory.rate(sqrt_s, found.masses_at(point.values), 1.0, found.parameters)


def _inputs(simulation: Simulation, point: GridPoint) -> Iterator[tuple[str, object]]:
    """As `Points.inputs`, of one search."""
    region, lifetime = simulation.region_of(point), simulation.spec.signal.lifetime
    if lifetime is not None and lifetime.shape_at is not None:
        point = replace(point, ctau=None)
        yield f"{SIGNAL} at its lifetimes", simulation.flying_inputs(region, point)
    yield SIGNAL, simulation.asked(SIGNAL, region, point).inputs
    for name, background in simulation.spec.backgrounds.items():
        if isinstance(background, Background):
            asked = simulation.asked(name, region)
            yield name, asked.inputs
            if asked.counted is not None:
                yield f"data of {name}", asked.data_inputs


def _histograms(templates: PointTemplates) -> dict[str, hist.Hist[Any]]:
    samples = {SIGNAL: templates.signal, **templates.backgrounds}
    return histograms(samples, templates.observation, templates.axis, templates.edges, templates.second)
