"""Detectors, candidates, cuts and an observable of a chain as tables for `_select`, which runs them in one pass."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.chain import Chunk
from modelbuilder.kinematics.cuts import Cut, TurnOn
from modelbuilder.kinematics.measure import (
    Detector,
    Efficiency,
    Particles,
    ResponseNumbers,
    TrackVolume,
    VertexAcceptance,
    displaced_tracks,
    efficiency_of_particle,
    find_vertex,
    kinds_of,
    measurement_key,
    response_numbers,
    responses,
)
from modelbuilder.kinematics.observables import beam_numbers, number_of
from modelbuilder.kinematics.shards import shard_bounds
from modelbuilder.spec.observables import FUNCTIONS, Observable

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_ANGLES = ("THETA", "OPENING_ANGLE", "TRANSVERSE_OPENING_ANGLE")
_CELLS = 4
"""Cells of the table of edges for each bin."""


@dataclass(frozen=True, kw_only=True)
class PieceSums:
    """Sums over a piece.

    flow: shape (n_steps, 3), of w, w^2 and w times the simulated weight, after each step.
    totals: by detector, shape (n_bins + 2, 2): weights and variances, with what lies below and above.
    weights, entries: of the nominal detector, shapes (n_candidates, n), (n_entries, n), or with n = 0.
    """

    flow: Floats
    totals: Mapping[str, Floats]
    weights: Floats
    entries: Floats


class CompiledSelection:
    """One pass over the events of a chain, for several detectors.

    detectors: by name; the cut flow is that of `nominal`.    positions: for each candidate, seen and vetoed ones among
    the visible particles.    cuts: for each candidate.    observables: likewise.    edges: of the histograms.
    second: observables for each candidate and edges of a second axis, whose bins run fastest. Entries are then places
    in flat bins of width 1.
    """

    def __init__(
        self,
        particles: Particles,
        beams: Beams,
        detectors: Mapping[str, Detector],
        nominal: str,
        *,
        vertices: Mapping[str, VertexAcceptance],
        positions: Sequence[tuple[Sequence[int], Sequence[int]]],
        cuts: Sequence[Sequence[Cut | TurnOn]],
        observables: Sequence[Observable],
        edges: Floats,
        second: tuple[Sequence[Observable], Floats] | None = None,
        seed: int,
        stream: str,
    ) -> None:
        self.particles = particles
        self.vertices = vertices
        self._key = measurement_key(seed, stream)
        rows: dict[ResponseNumbers, list[str]] = {}
        for name, detector in detectors.items():
            rows.setdefault(self._response(detector), []).append(name)
        self._names = [name for names in rows.values() for name in names]
        self._nominal = self._names.index(nominal) if nominal in self._names else -1
        self._displaced = frozenset(displaced_tracks(particles.topology, particles.places))
        self._efficiencies: dict[tuple[int, tuple[Efficiency | TrackVolume, ...]], int] = {}
        finding, taking = [], []
        for name in self._names:
            one, two = self._rows_of(detectors[name])
            finding.append(one)
            taking.append(two)
        tables = _Tables(particles, beams)
        n_steps = len(cuts[0])
        steps = [[tables.cut(own[step]) for own in cuts] for step in range(n_steps)]
        filled = [tables.observable(observable) for observable in observables]
        others, second_edges = second or ((), np.array([0.0, 1.0]))
        second_rows = [tables.observable(observable) for observable in others]
        shape = (n_steps, len(positions))
        self._n_lines = n_steps + (3 if vertices else 2)
        self._n_entries = sum(len(observable.entries) for observable in observables)
        self._n_candidates = len(positions)
        self._n_bins = (len(edges) - 1) * (len(second_edges) - 1)
        self._fixed: tuple[Any, ...] = (
            np.array(particles.places, dtype=np.int64),
            kinds_of(particles.nodes),
            np.array(particles.masses, dtype=float),
            *responses(list(rows)),
            np.cumsum([0, *(len(names) for names in rows.values())], dtype=np.int64),
            np.array(finding, dtype=np.int64),
            np.array(taking, dtype=np.int64),
            *_padded([seen for seen, _ in positions]),
            *_padded([vetoed for _, vetoed in positions]),
            np.array([[ints for ints, _ in step] for step in steps], dtype=np.int64).reshape(*shape, 5),
            np.array([[bounds for _, bounds in step] for step in steps], dtype=float).reshape(*shape, 6),
            *tables.arrays(),
            np.array(filled, dtype=np.int64),
            np.repeat(np.arange(len(observables)), [len(observable.entries) for observable in observables]),
            beam_numbers(beams),
            np.array(beams.four_momentum),
            edges,
            *_cells(edges),
            np.array(second_rows, dtype=np.int64),
            second_edges,
            *_cells(second_edges),
        )

    def _response(self, detector: Detector) -> ResponseNumbers:
        """Equal for detectors that measure these particles alike: what is not asked of a detector does not matter."""
        photons, tracks, surface, photon_cosines, track_cosines = response_numbers(detector)
        kinds = {node.kind == "photon" for node in self.particles.nodes}
        if True not in kinds:
            photons, surface, photon_cosines = (0.0,) * len(photons), (0.0,) * len(surface), (0.0, 0.0)
        if False not in kinds:
            tracks, track_cosines = (0.0,) * len(tracks), (0.0, 0.0)
        return photons, tracks, surface, photon_cosines, track_cosines

    def _rows_of(self, detector: Detector) -> tuple[list[int], list[int]]:
        """Row of the efficiency to find each particle, and to find it and take it for what it is taken for."""
        finding, taking = [], []
        for i, (node, kind) in enumerate(zip(self.particles.nodes, self.particles.seen, strict=True)):
            found: tuple[Efficiency | TrackVolume, ...] = (detector.photons.efficiency,)
            taken = found
            if node.kind != "photon":
                found = (detector.tracks.efficiency,)
                if i in self._displaced and detector.tracks.volume is not None:
                    found = (detector.tracks.volume, *found)
                taken = (*found, detector.tracks.identification_of(node.kind, kind))
            finding.append(self._efficiencies.setdefault((i, found), len(self._efficiencies)))
            taking.append(self._efficiencies.setdefault((i, taken), len(self._efficiencies)))
        return finding, taking

    def sums(self, chunks: Iterable[Chunk], *, n_events: int, keep: bool) -> PieceSums:
        """Over the chunks of a piece of n_events.    keep: weights and entries too."""
        from modelbuilder.kinematics import _random, _select

        block = _random.BLOCK
        ends = np.zeros(-(-n_events // block), dtype=np.int64)
        ends[shard_bounds(n_events, block)[1:-1] // block - 1] = 1
        ends[-1] = 1
        n_detectors, n_bins, n_kept = len(self._names), self._n_bins + 2, n_events if keep else 0
        flow = np.zeros((self._n_lines, 3, block))
        parts, totals = np.zeros((n_detectors, n_bins, 2)), np.zeros((n_detectors, n_bins, 2))
        touched = np.tile(np.array([n_bins, -1], dtype=np.int64), (n_detectors, 1))
        kept = (np.zeros((self._n_candidates, n_kept)), np.full((self._n_entries, n_kept), math.nan))
        done = 0
        table = np.empty((0, 0))
        for chunk in chunks:
            n = len(chunk.weights)
            if table.shape[1] != n:
                table = np.ones((len(self._efficiencies), n))
                self._set_efficiencies(chunk, table, changing=False)
            self._set_efficiencies(chunk, table, changing=True)
            points, weights = self._find_vertices(chunk)
            arguments = (
                chunk.first_event,
                self._key,
                *self._fixed,
                chunk.momenta,
                chunk.points,
                points,
                chunk.weights,
                weights,
                table,
                ends[done // block : -(-(done + n) // block)],
                self._nominal,
                bool(self.vertices),
                flow,
                parts,
                touched,
                totals,
                *kept,
                done,
            )
            _select.select_chunk(*arguments)
            done += n
        return PieceSums(
            flow=np.sum(flow, axis=-1),
            totals=dict(zip(self._names, totals, strict=True)),
            weights=kept[0],
            entries=kept[1],
        )

    def _set_efficiencies(self, chunk: Chunk, table: Floats, *, changing: bool) -> None:
        """Those that depend on the particle, or those that do not, which stay as they are."""
        for (i, factors), row in zip(self._efficiencies, table, strict=True):
            if changing == any(not isinstance(factor, float | int) for factor in factors):
                row[:] = 1.0
                place = self.particles.places[i]
                for factor in factors:
                    if isinstance(factor, TrackVolume):
                        row *= factor.holds(chunk.points[place])
                    else:
                        efficiency_of_particle(factor, chunk.momenta[place], row)

    def _find_vertices(self, chunk: Chunk) -> tuple[Floats, Floats]:
        """Measured decay points, and weights with the vertices."""
        if not self.vertices:
            return chunk.points, chunk.weights
        points, weights = chunk.points.copy(), chunk.weights.copy()
        for name, vertex in self.vertices.items():
            find_vertex(
                self.particles.topology, name, vertex, chunk.points, points, self._key, chunk.first_event, weights
            )
        return points, weights


class _Tables:
    """Rows of the observables and cuts."""

    def __init__(self, particles: Particles, beams: Beams) -> None:
        self.particles = particles
        self.beams = beams
        self._known: dict[Observable, int] = {}
        self._rows: list[list[int]] = []
        self._scales: list[float] = []
        self._entries: list[list[int]] = []
        self._numbers: list[tuple[float, float]] = []
        self._members: list[int] = []
        self._turns: list[tuple[float, float]] = []

    def observable(self, observable: Observable) -> int:
        """The row of an observable."""
        from modelbuilder.kinematics import _observables, _select

        if observable in self._known:
            return self._known[observable]
        function = FUNCTIONS[observable.function]
        flies = function.code.startswith("FLIGHT")
        code = _select.FLIGHT if flies else getattr(_observables, function.code)
        what = int(function.code.split()[1]) if flies else 0
        first = len(self._entries)
        for groups in observable.entries:
            ranges = []
            for members in groups:
                ranges += [len(self._members), len(self._members) + len(members)]
                self._members.extend(members)
            self._entries.append(ranges + [0] * (6 - len(ranges)))
            number = number_of(observable, groups, self.particles.masses, self.beams)
            self._numbers.append((number, 0.5 * self.beams.sqrt_s))
        row = [code, int(function.recoil), int(function.centre), observable.node, what, first, len(self._entries)]
        self._rows.append(row)
        self._scales.append(float(self.beams.sqrt_s) if observable.per_sqrt_s else 1.0)
        self._known[observable] = len(self._rows) - 1
        return self._known[observable]

    def cut(self, cut: Cut | TurnOn) -> tuple[list[int], list[float]]:
        """The row of a cut, and its bounds."""
        from modelbuilder.kinematics import _select

        row = self.observable(cut.observable)
        if isinstance(cut, TurnOn):
            first = len(self._turns)
            self._turns.extend(cut.points)
            return [_select.TURN_ON, row, 0, first, len(self._turns)], [0.0] * 6
        low, high = cut.low, cut.high
        kind = _select.RANGE
        angles = [1.0, 0.0, -1.0, 0.0]  # as 0 and pi, which bound nothing
        if FUNCTIONS[cut.observable.function].code in _ANGLES and low <= math.pi and high >= 0.0:
            kind = _select.ANGLE_RANGE
            if low > 0.0:
                angles[:2] = math.cos(low), math.sin(low)
            if high < math.pi:
                angles[2:] = math.cos(high), math.sin(high)
        return [kind, row, cut.at_least or 0, 0, 0], [low, high, *angles]

    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """Observables, scales, entries, numbers, members and points of the turn-ons."""
        return (
            np.array(self._rows, dtype=np.int64),
            np.array(self._scales, dtype=float),
            np.array(self._entries, dtype=np.int64),
            np.array(self._numbers, dtype=float),
            np.array(self._members, dtype=np.int64),
            np.array([[x for x, _ in self._turns], [y for _, y in self._turns]], dtype=float),
        )


def _padded(rows: Sequence[Sequence[int]]) -> tuple[Ints, Ints]:
    """Rows as an array, and their lengths."""
    lengths = [len(row) for row in rows]
    table = np.zeros((len(rows), max(1, *lengths, 1)), dtype=np.int64)
    for line, row in zip(table, rows, strict=True):
        line[: len(row)] = row
    return table, np.array(lengths, dtype=np.int64)


def _cells(edges: Floats) -> tuple[Ints, float]:
    """Number of edges in cells below each of equal cells, and one over their width: as the kernel finds a cell."""
    n_cells = _CELLS * len(edges)
    inverse = float(n_cells / (edges[-1] - edges[0]))
    own = np.minimum(((edges - edges[0]) * inverse).astype(np.int64), n_cells - 1)
    return np.searchsorted(own, np.arange(n_cells + 1)).astype(np.int64), inverse
