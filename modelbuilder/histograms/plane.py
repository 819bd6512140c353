"""From a search in the plane of two masses to the windows of its grid points.

A signal is simulated at a few pairs of masses, the nodes. What is measured there, its efficiency, the widths of both
observables with their correlation and offsets, and the part within the ellipse, is interpolated linearly over triangles
between the nodes; bin contents never are. Backgrounds and data are events in the plane, which all windows share.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from modelbuilder.errors import UserError
from modelbuilder.histograms.binning import Peak
from modelbuilder.histograms.cache import SimulationCache
from modelbuilder.histograms.ellipses import Ellipses, PlaneEvents, measure_core, members_of_ellipses, sums_in_ellipses
from modelbuilder.histograms.inputs import passed
from modelbuilder.histograms.simulate import Simulation
from modelbuilder.histograms.stated import pseudo_counts
from modelbuilder.histograms.templates import Axis, FloatArray, PointTemplates, SampleTemplates, Template
from modelbuilder.kinematics.observables import evaluate_entries
from modelbuilder.kinematics.sample import ChainSample, Thinning
from modelbuilder.kinematics.shards import generator
from modelbuilder.spec.grid import GridPoint, point_name, text_of
from modelbuilder.spec.inputs import BackgroundEvents, Events
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.observables import arguments_of
from modelbuilder.spec.plane import EventsInPlane, PlaneChannel
from modelbuilder.spec.search import (
    MASS_LIKE,
    SIGNAL,
    AsimovData,
    BackgroundFromFiles,
    ObservedData,
    PseudoData,
    StatedBackground,
)
from modelbuilder.spec.triangles import ON_THE_EDGE, Triangles

LEAST_AT_A_NODE = 200.0
"""Effective events that must pass at a node."""
DISTANCE = Axis("distance", "distance from the centre", "resolution")
"""The one bin of a window: the Mahalanobis distance, in standard deviations."""

_TOYS_AT_A_TIME = 100
"""So many toys of all events are in memory."""

Integers = npt.NDArray[np.int64]

PARAMETERS = ("efficiency", "inside", "bias_x", "bias_y", "log_stdev_x", "log_stdev_y", "artanh_correlation")


@dataclass(frozen=True, kw_only=True)
class NodeMeasurement:
    """What is measured of the signal at its nodes; arrays of n_nodes.

    masses: shape (n, 2), GeV.    parameters: shape (n, 7), the columns PARAMETERS: efficiency before the window, relative
    to the cross section without radiation; part inside of the ellipse; means less the masses, in widths; logarithms of
    the widths, in the units of the observables; artanh of the correlation.
    effective: number of events that pass, (sum w)^2 / sum w^2.
    closure: efficiency within the ellipse as interpolated without this node, over what is measured in that ellipse;
    NaN for the outermost nodes, which the others do not surround.
    """

    masses: FloatArray
    parameters: FloatArray
    effective: FloatArray
    closure: FloatArray

    def column(self, name: str) -> FloatArray:
        found: FloatArray = self.parameters[:, PARAMETERS.index(name)]
        return found


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """The signal at pairs of masses: efficiency before the window, the ellipse, the part of the signal inside of it.

    relative_error: of the efficiency within the ellipse, from the finite simulation.
    """

    efficiency: FloatArray
    inside: FloatArray
    ellipses: Ellipses
    relative_error: FloatArray


@dataclass(frozen=True, kw_only=True)
class PlaneWindows:
    """The windows of grid points, with what lies inside of them; all arrays have one row for each point.

    backgrounds: expected events and their variances, shape (n, 2), by name.    observation: events.
    events_per_rate: as of the spec.    nodes: what the signal was interpolated from, if it was simulated.
    """

    rows: Mapping[str, int]
    points: tuple[GridPoint, ...]
    shapes: Shapes
    backgrounds: Mapping[str, FloatArray]
    observation: FloatArray
    events_per_rate: float
    nodes: NodeMeasurement | None

    def at(self, point: GridPoint) -> PointTemplates:
        """The window of a point as a template with one bin."""
        row = self.rows[point.name]
        efficiency = float(self.shapes.efficiency[row])
        per_rate = self.events_per_rate * efficiency * float(self.shapes.inside[row])
        error = per_rate * float(self.shapes.relative_error[row])
        backgrounds = {
            name: SampleTemplates(Template(found[row, :1], found[row, 1:])) for name, found in self.backgrounds.items()
        }
        return PointTemplates(
            axis=DISTANCE,
            edges=np.array([0.0, self.shapes.ellipses.size]),
            signal=SampleTemplates(Template(np.array([per_rate]), np.array([error**2]))),
            backgrounds=backgrounds,
            observation=self.observation[row : row + 1],
            efficiency=efficiency,
        )


@dataclass(frozen=True, kw_only=True)
class PlaneToys:
    """Pseudo-data without a signal that all windows share; arrays of shape (n_toys, n_windows).

    counts: events in the windows.    simulation: auxiliary measurements of what is simulated, relative to the expectation.
    expected: what they were thrown from, of each background that is not stated; shape (n_windows,).
    """

    counts: FloatArray
    simulation: FloatArray
    expected: Mapping[str, FloatArray]


class PlaneSimulation:
    """Simulates what a search in the plane asks for. n_threads, cache: as of `Simulation`."""

    def __init__(self, search: LoadedSearch, *, n_threads: int = 1, cache: SimulationCache | None = None) -> None:
        self.search, self.spec, self.n_threads, self.cache = search, search.spec, n_threads, cache
        self.simulation = Simulation(search, n_threads=n_threads, cache=cache)
        (self.name,) = search.spec.channels
        self.channel: PlaneChannel = search.spec.plane(self.name)
        kinds = [MASS_LIKE[arguments_of(text)[0]] for text in self.channel.observables]
        self.peaks = [Peak("mass" if kind == "mass" else "mass2") for kind in kinds]

    def windows(self, points: Sequence[GridPoint]) -> PlaneWindows:
        """The windows of these points."""
        nodes = self.measure_nodes() if self.spec.signal.events else None
        shapes = self._shapes(points, nodes)
        backgrounds, observation = {}, np.zeros(len(points))
        for name, background in self.spec.backgrounds.items():
            if isinstance(background, StatedBackground):
                expected = background.expected[self.name]
                assert isinstance(expected, EventsInPlane)
                found = self._expected(expected, points, shapes.ellipses)
                backgrounds[name] = np.column_stack([found, np.zeros(len(points))])
                sums = self._sums(self._thrown(name, expected, nodes), shapes.ellipses)
            elif isinstance(background, BackgroundFromFiles):
                sums = self._sums(self.events_from_files(name), shapes.ellipses)
            else:
                sums = self._simulated_sums(name, shapes.ellipses)
            backgrounds.setdefault(name, sums[:, :2])
            observation += sums[:, 2]
        if isinstance(self.spec.data, AsimovData):
            observation = np.sum([found[:, 0] for found in backgrounds.values()], axis=0)
        if isinstance(self.spec.data, ObservedData):
            sums = sums_in_ellipses(self.observed_events(), shapes.ellipses, n_threads=self.n_threads)
            observation = sums[:, 2]
        return PlaneWindows(
            rows={point.name: row for row, point in enumerate(points)},
            points=tuple(points),
            shapes=shapes,
            backgrounds=backgrounds,
            observation=observation,
            events_per_rate=self.spec.events_per_rate,
            nodes=nodes,
        )

    def toys(self, points: Sequence[GridPoint], *, seed: int, n_toys: int) -> PlaneToys:
        """Thrown from the expected backgrounds, for the windows of these points.

        A simulated event is in the data of a toy a Poisson distributed number of times, with its weight as the mean. The
        auxiliary measurement of a window is the mean of one for each simulated event, so that windows share those too.
        """
        nodes = self.measure_nodes() if self.spec.signal.events else None
        ellipses = self._shapes(points, nodes).ellipses
        counts = np.zeros((len(points), n_toys))
        expected, simulated = {}, []
        for name, background in self.spec.backgrounds.items():
            dice = generator(seed, f"significance/backgrounds/{name}")
            if isinstance(background, StatedBackground):
                self._throw_stated(name, nodes, ellipses, dice, counts)
                continue
            files = isinstance(background, BackgroundFromFiles)
            found = _shared(self.events_from_files(name) if files else self.background_events(name), ellipses)
            for some in _chunks(n_toys):
                counts[:, some] += found.thrown(dice, some.stop - some.start)
            expected[name] = found.members @ found.means
            if background.shape == "simulated":
                simulated.append(found)
        dice = generator(seed, "significance/simulation")
        return PlaneToys(counts=counts.T, simulation=_auxiliary(simulated, dice, counts.shape).T, expected=expected)

    def _throw_stated(
        self,
        name: str,
        nodes: NodeMeasurement | None,
        ellipses: Ellipses,
        dice: np.random.Generator,
        counts: FloatArray,
    ) -> None:
        """Events anywhere in the cells, as pseudo-data have them, are added to `counts`, shape (n_windows, n_toys)."""
        background = self.spec.backgrounds[name]
        assert isinstance(background, StatedBackground)
        stated = background.expected[self.name]
        assert isinstance(stated, EventsInPlane)
        low, high, means = self._expected_in_cells(stated, nodes)
        for some in _chunks(counts.shape[1]):
            cells, toys = _drawn(means, some.stop - some.start, dice)
            places = low[cells] + dice.random((len(cells), 2)) * (high - low)[cells]
            order = np.argsort(places[:, 0], kind="stable")
            once = np.ones(len(order))
            events = PlaneEvents(x=places[order, 0], y=places[order, 1], weights=once, counts=once)
            of_toys = (once, (np.arange(len(order)), toys[order]))
            thrown = csr_array(of_toys, shape=(len(order), some.stop - some.start))
            counts[:, some] += (members_of_ellipses(events, ellipses) @ thrown).toarray()

    # ------------------------------------------------------------------------------------------------------ the signal

    @functools.cached_property
    def places(self) -> tuple[GridPoint, ...]:
        """The nodes."""
        nodes = self.spec.signal.nodes
        assert nodes is not None
        return tuple(GridPoint(-1, point_name(pair), tuple(pair.items()), self.name) for pair in nodes.pairs)

    def node_inputs(self) -> object:
        """All that the measurement of the signal at its nodes depends on."""
        chains = tuple(self._node_chain(place).inputs for place in self.places)
        return "nodes", chains, self.simulation.detector, self.channel.observables, self.channel.window.ellipse

    def measure_nodes(self) -> NodeMeasurement:
        """Simulate the signal at all nodes. Raises UserError where too few events pass to measure anything."""
        if self.cache is None:
            return self._measure_nodes()
        kept = self.cache.arrays(self.node_inputs(), lambda: dict(vars(self._measure_nodes())))
        return NodeMeasurement(**kept)

    def _measure_nodes(self) -> NodeMeasurement:
        places = self.places
        with ThreadPoolExecutor(self.n_threads) as pool:
            samples = list(pool.map(self._node_events, places))
        parameters, effective = [], []
        for place, events in zip(places, samples, strict=True):
            row, number = self._measured(place, events)
            parameters.append(row)
            effective.append(number)
        masses = np.array([place.masses for place in places])
        found = NodeMeasurement(
            masses=masses,
            parameters=np.array(parameters),
            effective=np.array(effective),
            closure=np.full(len(places), math.nan),
        )
        for index in range(len(places)):
            found.closure[index] = self._closure(found, index, samples[index])
        return found

    def _node_chain(self, place: GridPoint) -> ChainSample:
        return self.simulation.chain_sample(SIGNAL, self.spec.selection, place)

    def _node_events(self, place: GridPoint) -> PlaneEvents:
        """Weights: efficiencies, so that their sum is that of the selection."""
        chain = self._node_chain(place)
        made = self.simulation.made(place)
        return self._events(chain, 1.0 / (chain.n_events * made), None)

    def _measured(self, place: GridPoint, events: PlaneEvents) -> tuple[list[float], float]:
        total = float(events.weights.sum())
        effective = total**2 / float(np.square(events.weights).sum()) if total > 0.0 else 0.0
        if effective < LEAST_AT_A_NODE:
            where = self.search.place_of("signal", "nodes")
            msg = (
                f"{where}: signal.nodes: at {text_of(place.values)} only {effective:.0f} simulated events pass the selection;"
                f" at least {LEAST_AT_A_NODE:.0f} are needed to measure the resolutions, raise signal.events or move the node"
            )
            raise UserError(msg)
        core = measure_core(events.x, events.y, events.weights)
        expected = [one.at(mass) for one, mass in zip(self.peaks, place.masses, strict=True)]
        ellipse = self._ellipses(np.array([core.means]), np.array([core.stdevs]), np.array([core.correlation]))
        inside = float(events.weights[ellipse.contain(0, events.x, events.y)].sum()) / total
        biases = [(m - e) / s for m, e, s in zip(core.means, expected, core.stdevs, strict=True)]
        return [total, inside, *biases, *np.log(core.stdevs).tolist(), math.atanh(core.correlation)], effective

    def _closure(self, nodes: NodeMeasurement, index: int, events: PlaneEvents) -> float:
        others = np.arange(len(nodes.masses)) != index
        try:
            weights = Triangles(nodes.masses[others]).at(nodes.masses[index : index + 1])
        except ValueError:
            return math.nan
        if weights.outside[0] > ON_THE_EDGE:
            return math.nan
        rows = nodes.parameters[others]
        predicted = np.array([[weights.of(column)[0] for column in rows.T]])
        ellipse = self._ellipses_of(nodes.masses[index : index + 1], predicted)
        measured = float(events.weights[ellipse.contain(0, events.x, events.y)].sum())
        return float(predicted[0, 0] * predicted[0, 1]) / measured if measured > 0.0 else math.inf

    def _ellipses(self, centres: FloatArray, stdevs: FloatArray, correlations: FloatArray) -> Ellipses:
        return Ellipses(centres=centres, stdevs=stdevs, correlations=correlations, size=self.channel.window.ellipse)

    def _ellipses_of(self, masses: FloatArray, parameters: FloatArray) -> Ellipses:
        """From masses and rows of PARAMETERS."""
        stdevs = np.exp(parameters[:, 4:6])
        centres = self._positions(masses) + parameters[:, 2:4] * stdevs
        return self._ellipses(centres, stdevs, np.tanh(parameters[:, 6]))

    def _positions(self, masses: FloatArray) -> FloatArray:
        """Where masses lie in the plane, shape (n, 2)."""
        columns = [masses[:, i] if p.coordinate == "mass" else masses[:, i] ** 2 for i, p in enumerate(self.peaks)]
        return np.column_stack(columns)

    def _shapes(self, points: Sequence[GridPoint], nodes: NodeMeasurement | None) -> Shapes:
        masses = np.array([point.masses for point in points])
        stated = np.array([self.simulation.stated_efficiency(point) for point in points])
        if nodes is not None:
            weights = Triangles(nodes.masses).at(masses)
            rows = np.column_stack([weights.of(column) for column in nodes.parameters.T])
            errors = weights.of(1.0 / np.sqrt(nodes.effective))
            return Shapes(
                efficiency=rows[:, 0] * stated,
                inside=rows[:, 1],
                ellipses=self._ellipses_of(masses, rows),
                relative_error=errors,
            )
        correlation = self.channel.correlation
        assert correlation is not None
        stdevs = np.array([[self.channel.resolution[n].at(p.values) for n in self.channel.plane] for p in points])
        for index, peak in enumerate(self.peaks):
            if peak.coordinate == "mass2":
                stdevs[:, index] *= 2.0 * masses[:, index]
        return Shapes(
            efficiency=stated,
            inside=np.full(len(points), -math.expm1(-0.5 * self.channel.window.ellipse**2)),
            ellipses=self._ellipses(
                self._positions(masses), stdevs, np.array([correlation.at(point.values) for point in points])
            ),
            relative_error=np.zeros(len(points)),
        )

    # --------------------------------------------------------------------------------------------- backgrounds and data

    def background_inputs(self, name: str) -> object:
        """All that the events of a simulated background, and their number in the data, depend on."""
        chain = self.simulation.chain_sample(name, self.spec.selection)
        counted = self.simulation.factors(name)
        return "plane", chain.inputs, self.simulation.detector, self.channel.observables, counted, self._data_seed

    def _simulated_sums(self, name: str, ellipses: Ellipses) -> FloatArray:
        """As `_sums`, of a simulated background."""
        if self.cache is None:
            return self._sums(self.background_events(name), ellipses)
        inputs = self.background_inputs(name), ellipses
        kept = self.cache.arrays(inputs, lambda: {"sums": self._sums(self.background_events(name), ellipses)})
        return kept["sums"]

    def _sums(self, events: PlaneEvents, ellipses: Ellipses) -> FloatArray:
        return sums_in_ellipses(events, ellipses, n_threads=self.n_threads)

    @property
    def _data_seed(self) -> int | None:
        return self.spec.data.seed if isinstance(self.spec.data, PseudoData) else None

    def background_events(self, name: str) -> PlaneEvents:
        """A simulated background: its weights are expected events, its counts pseudo-data."""
        chain = self.simulation.chain_sample(name, self.spec.selection)
        scale = self.simulation.scale(name)
        data = self.spec.data
        thinning = Thinning(scale=scale, seed=data.seed) if isinstance(data, PseudoData) and scale > 0.0 else None
        return self._events(chain, scale, thinning)

    def events_from_files(self, name: str) -> PlaneEvents:
        """A background event by event; of pseudo-data each of its events is a Poisson distributed number."""
        background, data = self.spec.backgrounds[name], self.spec.data
        assert isinstance(background, BackgroundFromFiles)
        entry = background.files[self.name]
        assert isinstance(entry, BackgroundEvents)
        x, y, weights = self._read(entry, ("backgrounds", name, "files", self.name))
        weights *= self.spec.luminosity.value / entry.luminosity
        weights *= 1.0 if background.efficiency is None else background.efficiency.value
        counts = None
        if isinstance(data, PseudoData):
            counts = pseudo_counts(weights, seed=data.seed, stream=f"{name}/{self.name}")
        return PlaneEvents.of(x, y, weights, counts)

    def observed_events(self) -> PlaneEvents:
        """The measured data."""
        assert isinstance(self.spec.data, ObservedData)
        entry = self.spec.data.files[self.name]
        assert isinstance(entry, Events)
        x, y, weights = self._read(entry, ("data", "files", self.name))
        return PlaneEvents.of(x, y, np.zeros_like(weights), weights)

    def _read(self, entry: Events, path: tuple[str, ...]) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Both observables and the weights of events of a file."""
        columns = self.search.columns_of(path)
        weights = passed(entry, columns, self.spec.selection, is_data=path[0] == "data")
        x, y = (entry.values(text, columns)[0] for text in self.channel.observables)
        return x, y, weights

    def _events(self, chain: ChainSample, scale: float, thinning: Thinning | None) -> PlaneEvents:
        observables = [chain.observables(text) for text in self.channel.observables]
        threads = self.n_threads if thinning is not None else 1
        columns: list[list[FloatArray]] = [[], [], [], []]
        for number, piece in enumerate(chain.pieces(self.simulation.detector, n_threads=threads)):
            counts = np.zeros_like(piece.weights) if thinning is None else chain.counts(piece.weights, number, thinning)
            for candidate, weights in enumerate(piece.weights):
                kept = (weights > 0.0) | (counts[candidate] > 0.0)
                for column, found in zip(columns, observables, strict=False):
                    column.append(evaluate_entries(found[candidate], piece.measured, self.simulation.beams)[0][kept])
                columns[2].append(scale * weights[kept])
                columns[3].append(counts[candidate][kept])
        return PlaneEvents.of(*(np.concatenate(column) for column in columns))

    def _expected(self, stated: EventsInPlane, points: Sequence[GridPoint], ellipses: Ellipses) -> FloatArray:
        """Events in the windows of points."""
        events = np.array([stated.events.at(point.values) for point in points])
        area = stated.area(self.channel.observables)
        per_window = events if area is None else events / area * ellipses.areas
        return per_window * (self.spec.luminosity.value / stated.luminosity)

    def _thrown(self, name: str, stated: EventsInPlane, nodes: NodeMeasurement | None) -> PlaneEvents:
        """Pseudo-data of a stated background: the plane is cut into one cell around each grid point, whose density it has."""
        data = self.spec.data
        if not isinstance(data, PseudoData):
            return PlaneEvents.of(*np.zeros((3, 0)))
        low, high, means = self._expected_in_cells(stated, nodes)
        stream = f"{name}/{self.name}"
        counts = pseudo_counts(means, seed=data.seed, stream=stream).astype(np.int64)
        owner = np.repeat(np.arange(len(means)), counts)
        places = low[owner] + generator(data.seed, f"{stream}/places").random((len(owner), 2)) * (high - low)[owner]
        return PlaneEvents.of(places[:, 0], places[:, 1], np.zeros(len(owner)), np.ones(len(owner)))

    def _expected_in_cells(
        self, stated: EventsInPlane, nodes: NodeMeasurement | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Lower and upper corners of cells around all grid points, and the events in each."""
        grid = self.search.points  # all: the data do not depend on which points are asked for
        ellipses = self._shapes(grid, nodes).ellipses
        low, high = self._cells(ellipses)
        density = self._expected(stated, grid, ellipses) / ellipses.areas
        return low, high, density * np.prod(high - low, axis=1)

    def _cells(self, ellipses: Ellipses) -> tuple[FloatArray, FloatArray]:
        """Lower and upper corners of the cells, shape (n, 2): halfway to the neighbours, and beyond the windows at the ends."""
        masses = np.array([point.masses for point in self.search.points])
        reach = ellipses.size * ellipses.stdevs
        low, high = ellipses.centres - reach, ellipses.centres + reach
        starts = np.flatnonzero(np.diff(masses[:, 0], prepend=-1.0) > 0.0)
        rows = [slice(a, b) for a, b in zip(starts, [*starts[1:], len(masses)], strict=True)]
        middle = [float(ellipses.centres[row, 0].mean()) for row in rows]
        for number, row in enumerate(rows):
            if number > 0:
                low[row, 0] = 0.5 * (middle[number - 1] + middle[number])
            else:
                low[row, 0] = low[row, 0].min()
            high[row, 0] = 0.5 * (middle[number] + middle[number + 1]) if number + 1 < len(rows) else high[row, 0].max()
            y = ellipses.centres[row, 1]
            low[row, 1][1:] = high[row, 1][:-1] = 0.5 * (y[1:] + y[:-1])
        return low, np.maximum(high, low)

    @functools.cached_property
    def coordinates(self) -> tuple[str, str]:
        """`mass` or `mass2`, of both observables."""
        return self.peaks[0].coordinate, self.peaks[1].coordinate


@dataclass(frozen=True, kw_only=True)
class _SharedEvents:
    """Weighted events, those that lie in the same windows taken together.

    members: 1 where a set (column) lies in a window (row).    means, squares: sums of the weights of each set, and of
    their squares.
    """

    members: csr_array
    means: FloatArray
    squares: FloatArray

    def thrown(self, dice: np.random.Generator, n_toys: int) -> FloatArray:
        """Numbers of events, shape (n_windows, n_toys)."""
        chosen, toys = _drawn(self.means, n_toys, dice)
        thrown = csr_array((np.ones(len(chosen)), (chosen, toys)), shape=(len(self.means), n_toys))
        found: FloatArray = (self.members @ thrown).toarray()
        return found


def _shared(events: PlaneEvents, ellipses: Ellipses) -> _SharedEvents:
    """Without the events that lie in no window, which are most of them."""
    members = members_of_ellipses(events, ellipses).tocsc()
    used = np.flatnonzero(np.diff(members.indptr))
    members, weights = members[:, used], events.weights[used]
    # a set of windows is known by the sum of random numbers of its windows, modulo 2^64
    of_windows = np.random.default_rng(0).integers(2**64, size=len(ellipses), dtype=np.uint64)
    keys = np.add.reduceat(of_windows[members.indices], members.indptr[:-1]) if len(used) else of_windows[:0]
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    means, squares = np.zeros(len(first)), np.zeros(len(first))
    np.add.at(means, which, weights)
    np.add.at(squares, which, np.square(weights))
    return _SharedEvents(members=members[:, first].tocsr(), means=means, squares=squares)


def _drawn(means: FloatArray, n_toys: int, dice: np.random.Generator) -> tuple[Integers, Integers]:
    """Poisson distributed numbers of each in every toy, as a list: which, and in which toy."""
    edges = np.cumsum(means)
    total = float(edges[-1]) if len(edges) else 0.0
    toys = np.repeat(np.arange(n_toys), dice.poisson(total, n_toys))
    which = np.searchsorted(edges, total * dice.random(len(toys)), side="right")
    return np.minimum(which, max(len(means) - 1, 0)), toys


def _auxiliary(simulated: Sequence[_SharedEvents], dice: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
    """Auxiliary measurements of windows, shape (n_windows, n_toys); 1 where nothing is simulated."""
    total = np.sum([np.zeros(shape[0]), *(one.members @ one.means for one in simulated)], axis=0)
    scale = 1.0 / np.where(total > 0.0, total, 1.0)[:, None]
    found = np.ones(shape)
    for one in simulated:
        errors = np.sqrt(one.squares)[:, None]
        for some in _chunks(shape[1]):
            deviates = dice.standard_normal((len(errors), some.stop - some.start))
            found[:, some] += scale * (one.members @ (errors * deviates))
    return found


def _chunks(n_toys: int) -> Iterator[slice]:
    return (slice(first, min(first + _TOYS_AT_A_TIME, n_toys)) for first in range(0, n_toys, _TOYS_AT_A_TIME))


def closure_of(nodes: NodeMeasurement) -> tuple[int, float, float]:
    """Number of nodes with a closure, the root of the mean square of closure - 1, and the largest of its sizes."""
    known = nodes.closure[np.isfinite(nodes.closure)] - 1.0
    if not len(known):
        return 0, math.nan, math.nan
    return len(known), float(np.sqrt(np.mean(known**2))), float(np.abs(known).max())


def nodes_csv(nodes: NodeMeasurement, variables: Sequence[str], units: Sequence[str]) -> str:
    """A table of the nodes."""
    head = [*(f"{variable}_gev" for variable in variables), "efficiency", "inside"]
    head += [f"{what}_{variable}" for what in ("bias", "stdev") for variable in variables]
    head += ["correlation", "effective_events", "closure"]
    first = (
        "# Signal at its nodes. efficiency: of the simulated selection, with radiation; inside: the part of it within the\n"
        "# ellipse; bias: mean less the mass, and stdev: both of the core of the peak and of the observables, in\n"
        f"# {' and '.join(units)}; closure: efficiency within the ellipse as interpolated from the other nodes, over the\n"
        "# simulated one; empty for the outermost nodes.\n"
    )
    stdevs = np.exp(nodes.parameters[:, 4:6])
    columns = [*nodes.masses.T, *nodes.parameters[:, :2].T, *(nodes.parameters[:, 2:4] * stdevs).T, *stdevs.T]
    columns += [np.tanh(nodes.parameters[:, 6]), nodes.effective, nodes.closure]
    return first + _csv(head, np.column_stack(columns))


def windows_csv(windows: PlaneWindows, variables: Sequence[str]) -> str:
    """A table of the windows: where they lie, and what is in them."""
    ellipses = windows.shapes.ellipses
    head = ["point", *(f"{variable}_gev" for variable in variables)]
    head += [f"{what}_{variable}" for what in ("centre", "stdev") for variable in variables]
    head += ["correlation", "size", "efficiency", "inside", "observation"]
    head += [f"{name}_{what}" for name in windows.backgrounds for what in ("events", "stdev")]
    masses = np.array([point.masses for point in windows.points])
    columns = [*masses.T, *ellipses.centres.T, *ellipses.stdevs.T, ellipses.correlations]
    columns += [
        np.full(len(masses), ellipses.size),
        windows.shapes.efficiency,
        windows.shapes.inside,
        windows.observation,
    ]
    for found in windows.backgrounds.values():
        columns += [found[:, 0], np.sqrt(found[:, 1])]
    names = [point.name for point in windows.points]
    return _csv(head, np.column_stack(columns), names)


def _csv(head: Sequence[str], rows: FloatArray, names: Sequence[str] | None = None) -> str:
    def lines() -> Iterator[str]:
        yield ",".join(head)
        for index, row in enumerate(rows.tolist()):
            cells = ["" if math.isnan(value) else repr(value) for value in row]
            yield ",".join(cells if names is None else [names[index], *cells])

    return "\n".join(lines()) + "\n"
