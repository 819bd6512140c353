"""A sample from the generator to cut flow and histograms, piece by piece: memory does not grow with the events.

The pieces are the same whatever the number of threads, and their sums are added in order; so are the results, bit for
bit. All variations of the detector see the same events and the same random numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import (
    MOST_LIFETIMES,
    ChainEvents,
    ChainGenerator,
    Chunk,
    checked_lifetimes,
    lifetime_ratios,
)
from modelbuilder.kinematics.compiled_selection import CompiledSelection
from modelbuilder.kinematics.cuts import Cut, Step, TurnOn, checked_edges, error_function_turn_on, fill_entries, step_of
from modelbuilder.kinematics.measure import (
    Detector,
    EfficiencyTable,
    MeasuredEvents,
    Particles,
    VertexAcceptance,
    measure,
)
from modelbuilder.kinematics.shards import available_threads, stream_key
from modelbuilder.kinematics.simulate import SimulatedHistogram
from modelbuilder.spec.cuts import ThresholdTurnOn
from modelbuilder.spec.observables import Observable, has_flight_of, parse_observable
from modelbuilder.spec.process import Candidate, VertexTable, seen_kinds
from modelbuilder.spec.topology import Topology, visible_places

if TYPE_CHECKING:
    from modelbuilder.spec.cuts import Cut as CutInSpec
    from modelbuilder.spec.process import Vertex

Floats = npt.NDArray[np.float64]
T = TypeVar("T")

PIECE = 1 << 16
"""Events of a piece: the results depend on it in the last bits, so it is a constant."""
CHUNK = 1 << 12
"""Events that go from the generator to the histogram at a time, within the cache of a core; no result depends on it."""
NOMINAL = ""


@dataclass(frozen=True, kw_only=True)
class Thinning:
    """Poisson distributed counts in place of weights: pseudo-data.

    scale: expected events per weight.    seed: of the counts.
    """

    scale: float
    seed: int


@dataclass(frozen=True, kw_only=True)
class Selected:
    """Sums over a sample.

    flow: what is left after each step.    histograms: by name of the variation; "" is the nominal one.
    n_events: simulated ones.    sum_weights: of them, before the detector.    counts: pseudo-data, if asked for.
    """

    flow: tuple[Step, ...]
    histograms: Mapping[str, SimulatedHistogram]
    n_events: int
    sum_weights: float
    counts: Floats | None = None

    @property
    def efficiency(self) -> float:
        """Of all steps."""
        return self.flow[-1].efficiency

    @property
    def selected_per_event(self) -> float:
        """Sum of the weights that are left, per simulated event."""
        return self.flow[-1].sum_weights / self.n_events

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2 of what is left."""
        squares = self.flow[-1].sum_squared_weights
        return self.flow[-1].sum_weights ** 2 / squares if squares > 0.0 else 0.0


@dataclass(frozen=True, kw_only=True)
class MeasuredPiece:
    """Some events of a sample as measured.

    measured: before the choice of a candidate.    weights: of each candidate after all cuts, shape (n_candidates, n).
    """

    events: ChainEvents
    measured: MeasuredEvents
    weights: Floats


@dataclass(frozen=True, kw_only=True)
class AtLifetime:
    """A sample seen at another lifetime of one of its particles.

    ctau: cm.    efficiency: of all steps, relative to what was simulated; efficiency_stdev its statistical error.
    effective_sample_size: (sum w)^2 / sum w^2 of what is left.
    """

    ctau: float
    efficiency: float
    efficiency_stdev: float
    effective_sample_size: float


def drawn_lifetimes(ctaus: Sequence[float]) -> tuple[float, ...]:
    """From which ctau proper lengths are drawn so that all of these are covered; at most eight, in equal ratios."""
    if len(set(ctaus)) <= MOST_LIFETIMES:
        return tuple(sorted(set(ctaus)))
    return tuple(float(ctau) for ctau in np.geomspace(min(ctaus), max(ctaus), MOST_LIFETIMES))


class ChainSample:
    """A process, its final state and its cuts.

    candidates: the ways to find the final state.    cuts: in their order; those on the flight of a particle that the
    process does not have do not bind it.    vertices: by name of a node.
    taken_for: by name, what tracks are taken for.    seed, stream: of the random numbers.
    lifetimes: ctau from which proper lengths are drawn, by species, for `at_lifetimes`; cm.
    """

    def __init__(
        self,
        topology: Topology,
        beams: Beams,
        *,
        candidates: Sequence[Candidate],
        cuts: Sequence[CutInSpec] = (),
        vertices: Mapping[str, Vertex] | None = None,
        taken_for: Mapping[str, str] | None = None,
        isr: bool,
        n_events: int,
        seed: int,
        stream: str,
        lifetimes: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.inputs = {
            "topology": topology,
            "beams": beams,
            "candidates": tuple(candidates),
            "cuts": tuple(cuts),
            "vertices": dict(vertices or {}),
            "taken_for": dict(taken_for or {}),
            "isr": isr,
            "n_events": n_events,
            "seed": seed,
            "stream": stream,
            "lifetimes": {species: tuple(ctaus) for species, ctaus in (lifetimes or {}).items()},
        }
        """All that the events and what is selected of them depend on, besides the detector."""
        self.topology = topology
        self.beams = beams
        self.candidates = tuple(candidates)
        self.cuts = tuple(cut for cut in cuts if has_flight_of(cut.quantity, topology))
        self.n_events = n_events
        self.seed, self.stream = seed, stream
        self.generator = ChainGenerator(topology, beams, isr=isr, lifetimes=lifetimes)
        self.kinds = seen_kinds(topology, taken_for or {})
        decaying = {topology.nodes[vertex.parent].name for vertex in topology.vertices}
        self.vertices = {
            name: vertex_acceptance(vertex) for name, vertex in (vertices or {}).items() if name in decaying
        }
        places = visible_places(topology)
        self._positions = [
            ([places.index(place) for place, _ in candidate.seen], [places.index(place) for place in candidate.vetoed])
            for candidate in self.candidates
        ]
        self._cuts = [[kinematic_cut(cut, topology, candidate) for cut in self.cuts] for candidate in self.candidates]

    @property
    def weight_unit(self) -> str:
        """Of the weights: "1", relative to the nominal cross section, or "fb"."""
        return self.generator.weight_unit

    def observables(self, text: str) -> tuple[Observable, ...]:
        """An observable, for each candidate."""
        return tuple(parse_observable(text, self.topology, candidate.seen) for candidate in self.candidates)

    def run(
        self,
        detectors: Mapping[str, Detector],
        text: str,
        edges: npt.ArrayLike,
        *,
        second: tuple[str, npt.ArrayLike] | None = None,
        thinning: Thinning | None = None,
        n_threads: int | None = None,
    ) -> Selected:
        """Simulate all events, and fill an observable for each detector.

        detectors: by name of the variation; NOMINAL must be there: the cut flow is that of it.
        edges: in the unit of the observable.    thinning: also fill pseudo-data.
        second: an observable with one entry in an event, and its edges. The histograms are then flat, with its bins
            running fastest, and have the numbers of the flat bins for edges.
        """
        checked = checked_edges(text, edges)
        observables = self.observables(text)
        other = None if second is None else (self._single(second[0]), checked_edges(*second))
        selection = self._compiled(detectors, observables, checked, other)
        if other is not None:
            checked = np.arange((len(checked) - 1) * (len(other[1]) - 1) + 1, dtype=np.float64)

        def sums_of(piece: int) -> _Sums:
            return self._sums(piece, selection, observables, checked, thinning)

        total = _Sums.zero(len(self._steps), len(checked) + 1, detectors)
        for sums in self._each(sums_of, n_threads):
            total.add(sums)
        flow = tuple(
            step_of(name, row, total.flow[0], self.n_events) for name, row in zip(self._steps, total.flow, strict=True)
        )
        return Selected(
            flow=flow,
            histograms={
                name: SimulatedHistogram(
                    edges=checked,
                    values=values[1:-1].copy(),
                    variances=variances[1:-1].copy(),
                    underflow=float(values[0]),
                    overflow=float(values[-1]),
                )
                for name, (values, variances) in total.histograms.items()
            },
            n_events=self.n_events,
            sum_weights=float(total.flow[0, 0]),
            counts=None if thinning is None else total.counts[1:-1].copy(),
        )

    def pieces(self, detector: Detector, *, n_threads: int | None = None) -> Iterator[MeasuredPiece]:
        """The events, piece by piece."""

        def measured(piece: int) -> MeasuredPiece:
            events = self._events(piece)
            found = self._measured(events, detector, piece)
            return MeasuredPiece(events=events, measured=found, weights=self._selected(found))

        return self._each(measured, n_threads)

    def at_lifetimes(
        self, detector: Detector, species: str, ctaus: Sequence[float], *, n_threads: int | None = None
    ) -> tuple[AtLifetime, ...]:
        """The efficiency at other lifetimes of a species, cm, all from the same events by their weights."""

        values = checked_lifetimes(self.topology, self.generator.lifetimes, species, ctaus)
        filled = self.observables(
            f"energy({self.candidates[0].seen[0][1]})"
        )  # anything that there is: only weights are kept
        selection = self._compiled({NOMINAL: detector}, filled, np.array([0.0, 1.0]), None)

        def sums_of(piece: int) -> Floats:
            first = piece * PIECE
            number = min(PIECE, self.n_events - first)
            simulated, lengths = np.empty(number), np.empty((len(self.topology.nodes), number))

            def kept() -> Iterator[Chunk]:
                for chunk in self.generator.chunks(
                    n_events=number, length=CHUNK, seed=self.seed, stream=self.stream, first_event=first, base=True
                ):
                    place = slice(chunk.first_event - first, chunk.first_event - first + len(chunk.weights))
                    simulated[place], lengths[:, place] = chunk.weights, chunk.lengths
                    yield chunk

            # what passes does not know the lifetime: weights before those for the lifetimes, which may underflow
            passed = np.sum(selection.sums(kept(), n_events=number, keep=True).weights, axis=0)
            ratios = lifetime_ratios(self.topology, self.generator.lifetimes, lengths, species, values)
            left, others = passed * ratios, simulated * ratios
            return np.array([sums_over(left, others), sums_over(others, others)])

        total = np.zeros((2, 3, len(ctaus)))
        for sums in self._each(sums_of, n_threads):
            total += sums
        found = []
        for ctau, left, simulated in zip(ctaus, total[0].T, total[1].T, strict=True):
            step = step_of("", left, simulated, self.n_events)
            found.append(
                AtLifetime(
                    ctau=float(ctau),
                    efficiency=step.efficiency,
                    efficiency_stdev=step.efficiency_stdev,
                    effective_sample_size=float(left[0] ** 2 / left[1]) if left[1] > 0.0 else 0.0,
                )
            )
        return tuple(found)

    @property
    def _steps(self) -> list[str]:
        """Names of the lines of the cut flow."""
        vertices = ["decay in the volume"] if self.vertices else []
        return ["simulated", *vertices, "found", *(cut.text for cut in self.cuts)]

    @property
    def _n_pieces(self) -> int:
        return -(-self.n_events // PIECE)

    def _each(self, work: Callable[[int], T], n_threads: int | None) -> Iterator[T]:
        """The results for all pieces, in order; at most two for each thread are held at a time."""
        threads = min(available_threads(n_threads), self._n_pieces)
        if threads <= 1:
            yield from map(work, range(self._n_pieces))
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting = [pool.submit(work, piece) for piece in range(min(2 * threads, self._n_pieces))]
            following = len(waiting)
            try:
                while waiting:
                    yield waiting.pop(0).result()
                    if following < self._n_pieces:
                        waiting.append(pool.submit(work, following))
                        following += 1
            finally:
                for future in waiting:
                    future.cancel()

    def _events(self, piece: int) -> ChainEvents:
        first = piece * PIECE
        number = min(PIECE, self.n_events - first)
        return self.generator.events(
            n_events=number, seed=self.seed, stream=self.stream, first_event=first, n_threads=1
        )

    def _measured(self, events: ChainEvents, detector: Detector, piece: int) -> MeasuredEvents:
        return measure(
            events,
            detector,
            seed=self.seed,
            stream=self.stream,
            required=(),
            seen_as=self.kinds,
            vertices=self.vertices,
            first_event=piece * PIECE,
            n_threads=1,
        )

    def _selected(self, measured: MeasuredEvents) -> Floats:
        """Weights of each candidate after all cuts, shape (n_candidates, n)."""
        weights = np.array([measured.candidate_weights(*positions) for positions in self._positions])
        for row, cuts in zip(weights, self._cuts, strict=True):
            for cut in cuts:
                row *= (
                    cut.passed(measured, self.beams) if isinstance(cut, Cut) else cut.efficiency(measured, self.beams)
                )
        return weights

    def _single(self, text: str) -> tuple[Observable, ...]:
        """An observable that has one entry in an event, for each candidate."""
        found = self.observables(text)
        for observable in found:
            if len(observable.entries) != 1:
                msg = f"{text}: {len(observable.entries)} entries in an event; a second observable has one"
                raise KinematicsError(msg)
        return found

    def _compiled(
        self,
        detectors: Mapping[str, Detector],
        observables: Sequence[Observable],
        edges: Floats,
        second: tuple[Sequence[Observable], Floats] | None,
    ) -> CompiledSelection:
        return CompiledSelection(
            Particles.of(self.topology, self.kinds),
            self.beams,
            detectors,
            NOMINAL,
            vertices=self.vertices,
            positions=self._positions,
            cuts=self._cuts,
            observables=observables,
            edges=edges,
            second=second,
            seed=self.seed,
            stream=self.stream,
        )

    def _sums(
        self,
        piece: int,
        selection: CompiledSelection,
        observables: Sequence[Observable],
        edges: Floats,
        thinning: Thinning | None,
    ) -> _Sums:
        first = piece * PIECE
        number = min(PIECE, self.n_events - first)
        chunks = self.generator.chunks(
            n_events=number, length=CHUNK, seed=self.seed, stream=self.stream, first_event=first
        )
        found = selection.sums(chunks, n_events=number, keep=thinning is not None)
        sums = _Sums(
            found.flow,
            {name: (part[:, 0], part[:, 1]) for name, part in found.totals.items()},
            np.zeros(len(edges) + 1),
        )
        if thinning is not None:
            counts = self.counts(found.weights, piece, thinning)
            repeats = [len(observable.entries) for observable in observables]
            sums.counts, _ = fill_entries(found.entries, np.repeat(counts, repeats, axis=0), edges)
        return sums

    def counts(self, weights: Floats, piece: int, thinning: Thinning) -> Floats:
        """How often each candidate is in the data: the same uniform number in all selections of the same sample."""
        key = stream_key(thinning.seed, f"{self.stream}/data")
        bits = np.random.Philox(key=np.array(key, dtype=np.uint64), counter=np.array([0, piece, 0, 0], dtype=np.uint64))
        uniform = np.random.Generator(bits).random(weights.shape)
        return poisson_counts(thinning.scale * weights, uniform)


def sums_over(weights: Floats, before: Floats) -> Floats:
    """Sums of w, w^2 and w times the simulated weight, as `step_of` takes them; shape (3, n_rows)."""
    return np.array([np.sum(weights, axis=1), np.sum(weights**2, axis=1), np.sum(weights * before, axis=1)])


@dataclass
class _Sums:
    """flow: shape (n_steps, 3), sums of w, w^2 and w times the simulated weight; the rest with under- and overflow."""

    flow: Floats
    histograms: dict[str, tuple[Floats, Floats]]
    counts: Floats

    @classmethod
    def zero(cls, n_steps: int, n_bins: int, names: Mapping[str, object]) -> _Sums:
        return cls(np.zeros((n_steps, 3)), {n: (np.zeros(n_bins), np.zeros(n_bins)) for n in names}, np.zeros(n_bins))

    def add(self, other: _Sums) -> None:
        self.flow += other.flow
        self.counts += other.counts
        for name, (values, variances) in other.histograms.items():
            self.histograms[name][0][:] += values
            self.histograms[name][1][:] += variances


def poisson_counts(means: Floats, uniform: Floats) -> Floats:
    """The Poisson quantile of each uniform number; a larger mean never gives a smaller count."""
    from scipy.stats import poisson

    counts = np.zeros_like(means)
    some = uniform >= np.exp(-means)  # few, where the sample is much larger than the data
    counts[some] = poisson.ppf(uniform[some], means[some])
    return counts


def kinematic_cut(cut: CutInSpec, topology: Topology, candidate: Candidate) -> Cut | TurnOn:
    """A cut of a spec on the particles of a candidate."""
    observable = parse_observable(cut.quantity, topology, candidate.seen)
    if cut.turn_on is None:
        low, high = cut.bounds
        return Cut(observable=observable, low=low, high=high, at_least=cut.at_least)
    if isinstance(cut.turn_on, ThresholdTurnOn):
        threshold, width, plateau = cut.threshold
        return error_function_turn_on(observable, threshold=threshold, width=width, plateau=plateau)
    return TurnOn(observable=observable, points=cut.points)


def vertex_acceptance(vertex: Vertex) -> VertexAcceptance:
    """The vertex of a spec for the measurement."""
    given = vertex.efficiency
    line: tuple[tuple[float, float], ...] = ()
    table = None
    if isinstance(given, VertexTable):
        bins = given.binned()
        table = EfficiencyTable(
            variables=("rho", "z"),
            first_edges=bins.first_edges,
            second_edges=bins.second_edges,
            values=bins.values,
        )
    elif given is not None:
        line = tuple(zip(given.rho, given.value, strict=True))
    return VertexAcceptance(
        rho=vertex.rho or (0.0, math.inf),
        z=vertex.z or (-math.inf, math.inf),
        resolution=vertex.resolution,
        efficiency=line,
        table=table,
    )
