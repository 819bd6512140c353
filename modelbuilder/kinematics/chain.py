"""Simulate any decay chain: true momenta and decay points in the laboratory, with weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics import phase_space, tau
from modelbuilder.kinematics._constants import ELECTRON_MASS
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.shards import ordered_sum, run_shards, shard_bounds, stream_key
from modelbuilder.spec.topology import (
    Topology,
    Vertex,
    check_energy,
    decay_threshold,
    known_particle,
    lepton_identity,
    polarisation,
)

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Energies of the collision that are reached by the spread of the beams, in standard deviations
REACH = 6.0
MOST_LIFETIMES = 8
MOST_EVENTS = 2**62
_TABLE = 512  # points of a table over the mass of a wide parent
_FIRST_DRAW = 32  # the draw blocks below belong to the beams

# name of the law: code of the angle in `_decays`, code of the cross section
_PAIRS = {
    "phase-space": (0, 0),
    "vector-hadron": (0, 0),
    "dipole": (1, 0),
    "sine-squared": (2, 1),
    "cosine-squared": (3, 0),
    "fermion-pair": (4, 2),
    "photon-pseudoscalar": (1, 3),
    "photon-vector": (5, 4),
    "vector-scalar": (6, 5),
    "two-photons": (7, 6),
}
# Decays of a vector: codes of the angle if it is polarised along the axis, and across it
_VECTOR_DECAYS = {"vector-to-scalars": (3, 2), "vector-to-fermions": (8, 9)}
# How it was polarised: code of the axis in `_chain`, and whether it is along it
_POLARISATIONS = {
    "beams": (1, False),
    "helicity 0": (2, True),
    "helicity 1": (2, False),
    "photon-vector": (3, False),
    "vector-scalar": (4, True),
}
# `leptons-photon` is 4 for electrons
_PRODUCTIONS = {
    "leptons-vector": 0,
    "leptons-scalar": 1,
    "leptons-pseudoscalar": 2,
    "leptons-photon": 3,
    "mixed-leptons-vector": 5,
    "mixed-leptons-scalar": 6,
    "mixed-leptons-pseudoscalar": 7,
    "three-photons": 8,
}
# pi+, K+; rho(770)+, K*(892)+, a(1)(1260)+, by their PDG numbers
_PSEUDOSCALAR_MESONS = {211, 321}
_VECTOR_MESONS = {213, 323, 20213}
_SQUARES = {"leptonic": 1, "neutral-lepton": 2, "dark-current": 3}


@dataclass(frozen=True, kw_only=True)
class LifetimeWeights:
    """One sample seen at other lifetimes.

    ctaus: cm, shape (n_ctaus,).    weights: shape (n_ctaus, n_events).
    effective_sample_size: (sum w)^2/sum w^2, shape (n_ctaus,).
    """

    ctaus: Floats
    weights: Floats
    effective_sample_size: Floats


@dataclass(frozen=True, kw_only=True)
class ChainEvents:
    """Simulated events of a chain, before any detector.

    momenta: laboratory E, px, py, pz, GeV; shape (n_events, n_nodes, 4), nodes as in the topology.
    points: where a node decays, or where it begins if it does not decay; laboratory, cm; shape (n_events, n_nodes, 3).
    proper_lengths: c times the proper time to the decay, cm; shape (n_events, n_nodes); 0 for nodes that do not fly.
    weights: shape (n_events,), in units of weight_unit: "1" relative to the nominal beams, with mean 1 if they neither
        radiate nor spread, or "fb", the cross section per squared coupling. Weight 0 is not physical: below threshold.
    base_weights: the same before the weights for the lifetimes of the topology, over the lifetimes drawn.
    lifetimes: the ctau from which proper lengths were drawn in equal parts, cm, by name of the node.

    The arrays are views on the memory as the engine writes it: a component of a node is contiguous.
    """

    topology: Topology
    momenta: Floats
    points: Floats
    proper_lengths: Floats
    weights: Floats
    base_weights: Floats
    weight_unit: str
    lifetimes: Mapping[str, tuple[float, ...]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the nodes."""
        return tuple(node.name for node in self.topology.nodes)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2; 0 if all weights are 0."""
        squared = float(np.sum(self.weights**2))
        return float(np.sum(self.weights)) ** 2 / squared if squared > 0.0 else 0.0

    def momentum(self, name: str) -> Floats:
        """Momenta of one node, shape (n_events, 4)."""
        return self.momenta[:, self.topology.place(name)]

    def at_lifetimes(self, species: str, ctaus: npt.ArrayLike) -> LifetimeWeights:
        """Weights for other lifetimes of all particles of a species, cm.

        A ctau above twice the largest that was drawn has weights of infinite variance: draw from several with
        `lifetimes` of `simulate_chain`.
        """
        values = checked_lifetimes(self.topology, self.lifetimes, species, ctaus)
        weights = self.base_weights * lifetime_ratios(
            self.topology, self.lifetimes, self.proper_lengths.T, species, values
        )
        sums, squares = np.sum(weights, axis=1), np.sum(weights**2, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            size = np.where(squares > 0.0, sums**2 / squares, 0.0)
        return LifetimeWeights(ctaus=values, weights=weights, effective_sample_size=size)


@dataclass(frozen=True, kw_only=True)
class ChainWeight:
    """Sums of the weights of a chain, for its normalisation."""

    n_events: int
    sum_weights: float
    sum_squared_weights: float
    weight_unit: str

    @property
    def mean(self) -> float:
        """Mean weight: cross section over the nominal one, or in fb per squared coupling."""
        return self.sum_weights / self.n_events

    @property
    def stdev(self) -> float:
        """Statistical standard deviation of the mean."""
        variance = self.sum_squared_weights / self.n_events - self.mean**2
        return math.sqrt(max(variance, 0.0) / self.n_events)

    @property
    def effective_sample_size(self) -> float:
        """(sum w)^2 / sum w^2."""
        return self.sum_weights**2 / self.sum_squared_weights if self.sum_squared_weights > 0.0 else 0.0


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some events as the kernels have them; overwritten by the next.

    momenta, points, lengths, weights: as in `ChainEvents`, shapes (n_nodes, 4, n), (n_nodes, 3, n), (n_nodes, n), (n,).
    """

    first_event: int
    momenta: Floats
    points: Floats
    lengths: Floats
    weights: Floats


class ChainGenerator:
    """A chain at given beams, ready to be simulated, as a whole or in pieces.

    isr: collinear radiation of both beams.
    lifetimes: by species, up to eight ctau in cm from which the proper lengths are drawn in equal parts; the weights
        turn them into the lifetime of the topology, or another one (`ChainEvents.at_lifetimes`). Without: that of the
        topology.

    The tables that the kernels run on are made here, once: milliseconds, or a second with several wide masses.
    """

    def __init__(
        self,
        topology: Topology,
        beams: Beams,
        *,
        isr: bool,
        lifetimes: Mapping[str, Sequence[float]] | None = None,
    ) -> None:
        self.topology = topology
        self.beams = beams
        self._plan = _Plan(topology, beams, isr, dict(lifetimes or {}))

    @property
    def weight_unit(self) -> str:
        """As in `ChainEvents`."""
        return self._plan.weight_unit

    @property
    def lifetimes(self) -> Mapping[str, tuple[float, ...]]:
        """As in `ChainEvents`."""
        return self._plan.lifetimes

    def events(
        self, *, n_events: int, seed: int, stream: str, first_event: int = 0, n_threads: int | None = None
    ) -> ChainEvents:
        """Events first_event, first_event + 1, ...: 32 bytes for each node and event, 24 more for those that fly.

        seed, stream: the random numbers are a function of these and of the number of the event. So pieces that follow
            each other, of any length, are bit for bit the events of one long run.
        n_threads: None for one per processor. The result is the same bit for bit.
        """
        plan, topology = self._plan, self.topology
        arrays = _simulate(plan, first_event, n_events, n_events, seed, stream, n_threads)
        base = arrays["weights"]
        weights = self._at_own_lifetimes(base, arrays["lengths"])
        lengths = arrays["lengths"]
        return ChainEvents(
            topology=topology,
            momenta=arrays["momenta"].transpose(2, 0, 1),
            points=arrays["points"].transpose(2, 0, 1),
            proper_lengths=lengths.T,
            weights=weights,
            base_weights=base,
            weight_unit=plan.weight_unit,
            lifetimes=plan.lifetimes,
        )

    def _at_own_lifetimes(self, weights: Floats, lengths: Floats) -> Floats:
        for name, drawn in self._plan.lifetimes.items():
            place = self.topology.place(name)
            own = self.topology.nodes[place].ctau
            if drawn != (own,):
                weights = weights * _lifetime_ratio(lengths[place], np.array([own]), drawn)[0]
        return weights

    def chunks(
        self, *, n_events: int, length: int, seed: int, stream: str, first_event: int = 0, base: bool = False
    ) -> Iterator[Chunk]:
        """The same events, `length` at a time and each time in the same memory, which so stays in the cache.

        length, first_event: multiples of the block of the kernels.    base: with the weights before those for the
        lifetimes.
        """
        from modelbuilder.kinematics import _chain

        n_nodes = len(self.topology.nodes)
        sums = np.zeros(2)
        for first in range(first_event, first_event + n_events, length):
            n = min(length, first_event + n_events - first)
            if first == first_event or n < length:
                kept = (np.zeros((n_nodes, 4, n)), np.zeros((n_nodes, 3, n)), np.zeros((n_nodes, n)), np.zeros(n))
            arguments = (first, first + n, *_physics(self._plan, first, seed, stream), sums, *kept)
            _chain.chain_shard(*arguments)
            weights = kept[3] if base else self._at_own_lifetimes(kept[3], kept[2])
            yield Chunk(first_event=first, momenta=kept[0], points=kept[1], lengths=kept[2], weights=weights)

    def weigh(
        self, *, n_events: int, seed: int, stream: str, first_event: int = 0, n_threads: int | None = None
    ) -> ChainWeight:
        """The sums of the weights of `events` before those for the lifetimes, in memory that does not grow."""
        sums = ordered_sum(_simulate(self._plan, first_event, n_events, 0, seed, stream, n_threads)["sums"])
        return ChainWeight(
            n_events=n_events,
            sum_weights=float(sums[0]),
            sum_squared_weights=float(sums[1]),
            weight_unit=self.weight_unit,
        )


def simulate_chain(
    topology: Topology,
    beams: Beams,
    *,
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    first_event: int = 0,
    n_threads: int | None = None,
    lifetimes: Mapping[str, Sequence[float]] | None = None,
) -> ChainEvents:
    """Simulate a chain and keep all events; arguments as in `ChainGenerator`, which is to be kept for many pieces."""
    generator = ChainGenerator(topology, beams, isr=isr, lifetimes=lifetimes)
    return generator.events(n_events=n_events, seed=seed, stream=stream, first_event=first_event, n_threads=n_threads)


def weigh_chain(
    topology: Topology,
    beams: Beams,
    *,
    isr: bool,
    n_events: int,
    seed: int,
    stream: str,
    first_event: int = 0,
    n_threads: int | None = None,
) -> ChainWeight:
    """The sums of the weights of `simulate_chain`, in memory that does not grow with n_events."""
    generator = ChainGenerator(topology, beams, isr=isr)
    return generator.weigh(n_events=n_events, seed=seed, stream=stream, first_event=first_event, n_threads=n_threads)


def checked_lifetimes(
    topology: Topology, lifetimes: Mapping[str, tuple[float, ...]], species: str, ctaus: npt.ArrayLike
) -> Floats:
    """Values of ctau (cm) as an array, shape (n_ctaus,). lifetimes: as of `ChainEvents`. Raises KinematicsError."""
    values = np.atleast_1d(np.asarray(ctaus, dtype=float))
    if values.ndim != 1 or not (np.all(np.isfinite(values)) and np.all(values > 0.0)):
        msg = f"{topology.text}: every ctau of {species} must be positive"
        raise KinematicsError(msg)
    if not any(topology.nodes[topology.place(name)].species == species for name in lifetimes):
        known = sorted({topology.nodes[topology.place(name)].species for name in lifetimes})
        msg = f"{topology.text}: {species} does not fly; flying: {', '.join(known) or 'nothing'}"
        raise KinematicsError(msg)
    return values


def lifetime_ratios(
    topology: Topology, lifetimes: Mapping[str, tuple[float, ...]], lengths: Floats, species: str, ctaus: Floats
) -> Floats:
    """Weights at each ctau of a species (cm) over those before the lifetimes, shape (n_ctaus, n_events).

    lifetimes: as of `ChainEvents`; other species have the lifetime of the topology.    lengths: shape (n_nodes, n_events).
    """
    ratios = np.ones((len(ctaus), lengths.shape[1]))
    for name, drawn in lifetimes.items():
        place = topology.place(name)
        node = topology.nodes[place]
        ratios *= _lifetime_ratio(lengths[place], ctaus if node.species == species else np.array([node.ctau]), drawn)
    return ratios


def _lifetime_ratio(lengths: Floats, ctaus: Floats, drawn: tuple[float, ...]) -> Floats:
    """Density of proper lengths for each ctau over that of the mixture they were drawn from, shape (n_ctaus, n)."""
    # relative to the largest, so that nothing overflows
    parts = np.array([-lengths / part - math.log(part) for part in drawn])
    log_mixture = np.logaddexp.reduce(parts, axis=0) - math.log(len(drawn))
    ratio: Floats = np.exp(-lengths / ctaus[:, None] - np.log(ctaus)[:, None] - log_mixture)
    return ratio


def _simulate(
    plan: _Plan, first_event: int, n_events: int, n_kept: int, seed: int, stream: str, n_threads: int | None
) -> dict[str, Floats]:
    """Events first_event to first_event + n_events - 1: the sums of their weights, and n_kept of them or none."""
    if n_events < 1:
        msg = f"simulation: n_events is {n_events}; it must be at least 1"
        raise KinematicsError(msg)
    if not 0 <= first_event <= MOST_EVENTS - n_events:
        msg = f"simulation: first_event is {first_event}; the events of a stream are 0 to {MOST_EVENTS - 1}"
        raise KinematicsError(msg)
    if n_threads is not None and n_threads < 1:
        msg = f"simulation: n_threads is {n_threads}; it must be at least 1"
        raise KinematicsError(msg)

    from modelbuilder.kinematics import _chain, _random

    bounds = first_event + shard_bounds(n_events, _random.BLOCK)
    n_shards = len(bounds) - 1
    n_nodes = len(plan.topology.nodes)
    arrays: dict[str, Floats] = {
        "sums": np.zeros((n_shards, 2)),
        # pages that are not written are not allocated
        "momenta": np.zeros((n_nodes, 4, n_kept)),
        "points": np.zeros((n_nodes, 3, n_kept)),
        "lengths": np.zeros((n_nodes, n_kept)),
        "weights": np.zeros(n_kept),
    }
    physics = _physics(plan, first_event, seed, stream)
    kept = (arrays["momenta"], arrays["points"], arrays["lengths"], arrays["weights"])

    def run(shard: int) -> None:
        arguments = (int(bounds[shard]), int(bounds[shard + 1]), *physics, arrays["sums"][shard], *kept)
        _chain.chain_shard(*arguments)

    run_shards(run, n_shards, n_threads)
    return arrays


def _physics(plan: _Plan, first_event: int, seed: int, stream: str) -> tuple[Any, ...]:
    """What `_chain.chain_shard` takes after its range of events, to write event first_event at place 0."""
    return (
        first_event,
        np.array(stream_key(seed, stream), dtype=np.uint64),
        plan.beam_numbers,
        plan.topology.is_collision,
        plan.ops,
        plan.numbers,
        plan.values,
        plan.masses,
        plan.parents,
        plan.flies,
    )


class _Plan:
    """A topology as tables for the kernels of `_chain`; KinematicsError if it is not possible."""

    def __init__(self, topology: Topology, beams: Beams, isr: bool, lifetimes: Mapping[str, Sequence[float]]) -> None:
        self.topology = topology
        self.sqrt_s = beams.sqrt_s
        self.spread = 0.5 * math.hypot(
            beams.electron_energy_spread / beams.electron_energy, beams.positron_energy_spread / beams.positron_energy
        )
        self.isr = isr
        if not topology.is_collision:
            self.spread = 0.0
        check_energy(topology, beams.sqrt_s)
        first = topology.vertices[0]
        self.resonance = first.children[0] if first.law.name == "resonance" else -1
        if isr and (self.resonance >= 0 or not topology.is_collision):
            reason = "a resonance that is made at rest" if self.resonance >= 0 else "a particle at rest"
            msg = f"{topology.text}: it begins with {reason}; isr must be off"
            raise KinematicsError(msg)
        half = 0.5 * beams.crossing_angle
        on = topology.is_collision
        self.beam_numbers = (
            float(beams.electron_energy),
            float(beams.positron_energy),
            math.sin(half),
            math.cos(half),
            float(beams.sqrt_s),
            beams.electron_energy_spread / beams.electron_energy if on else 0.0,
            beams.positron_energy_spread / beams.positron_energy if on else 0.0,
            beams.isr_beta if isr else 0.0,
        )
        self.weight_unit = "fb" if first.law.name in {*_PRODUCTIONS, "two-photons"} else "1"
        self.ranges = self._ranges()
        self.parents = np.zeros(len(topology.nodes), dtype=np.int64)
        for vertex in topology.vertices:
            self.parents[list(vertex.children)] = vertex.parent
        self._rows: list[tuple[list[int], list[float]]] = []
        self._values: list[float] = []
        self._draw = _FIRST_DRAW
        for place in range(1, len(topology.nodes)):
            if self._is_wide(place):
                self._add_mass(place)
        for vertex in topology.vertices:
            self._add_vertex(vertex)
        self._add_spins()
        self.lifetimes = self._add_flights(lifetimes)
        self.flies = self._flies()
        self.ops: Ints = np.array([row for row, _ in self._rows], dtype=np.int64)
        self.numbers: Floats = np.array([numbers for _, numbers in self._rows], dtype=float)
        self.values: Floats = np.array([*self._values, 0.0])
        self.masses: Floats = np.array([node.mass for node in topology.nodes])

    def _is_wide(self, place: int) -> bool:
        return self.topology.nodes[place].width > 0.0 and place != self.resonance and place > 0

    def _varies(self, place: int) -> bool:
        """Whether the mass of a parent is not the same in all events."""
        return self.ranges[place][0] < self.ranges[place][1]

    def _ranges(self) -> list[tuple[float, float]]:
        """Least and largest mass of each node that its width, its products and its parent leave it."""
        topology = self.topology
        ranges = [topology.mass_range(place) for place in range(len(topology.nodes))]
        # a particle at rest has its nominal mass
        ranges[0] = (topology.nodes[0].mass, topology.nodes[0].mass)
        if topology.is_collision:
            reach = REACH * self.spread
            ranges[0] = (self.sqrt_s * (1.0 - reach), self.sqrt_s * (1.0 + reach))
        if self.resonance >= 0:
            ranges[self.resonance] = ranges[0]
        for vertex in topology.vertices:
            for child in vertex.children:
                if self._is_wide(child):
                    others = sum(ranges[other][0] for other in vertex.children if other != child)
                    low, high = ranges[child]
                    ranges[child] = (low, min(high, ranges[vertex.parent][1] - others))
        return ranges

    def _add(
        self,
        code: int,
        place: int,
        children: Sequence[int],
        numbers: Sequence[float],
        draws: int,
        *,
        n: int | None = None,
        law: int = 0,
        axis: int = 0,
        mode: int = 0,
        values: Sequence[float] = (),
    ) -> None:
        start = len(self._values)
        self._values.extend(values)
        padded = [*children, *([0] * (6 - len(children)))]
        grandparent = int(self.parents[place])
        row = [code, place, len(children) if n is None else n, *padded, law, axis, grandparent, self._draw, mode]
        self._rows.append(([*row, start, len(self._values)], [*numbers, *([0.0] * (4 - len(numbers)))]))
        self._draw += draws

    def _arctan(self, place: int, mass: npt.ArrayLike) -> Floats:
        node = self.topology.nodes[place]
        turns: Floats = np.arctan2(np.asarray(mass) ** 2 - node.mass**2, node.mass * node.width) / (2.0 * math.pi)
        return turns

    def _add_mass(self, place: int) -> None:
        node = self.topology.nodes[place]
        low, high = (float(self._arctan(place, mass)) for mass in self.ranges[place])
        self._add(0, place, (), (node.mass, node.width, low, high - low), 1)

    def _masses_of(self, children: Sequence[int]) -> list[Floats]:
        """Masses of the children, those of wide ones at equally likely points; broadcast, one axis for each of these."""
        wide = [child for child in children if self._is_wide(child)]
        points = {0: 1, 1: 400, 2: 60}.get(len(wide), 24)
        masses = []
        for child in children:
            if child in wide:
                node = self.topology.nodes[child]
                low, high = (float(self._arctan(child, mass)) for mass in self.ranges[child])
                turns = low + (high - low) * (np.arange(points) + 0.5) / points
                values = np.sqrt(np.maximum(node.mass**2 + node.mass * node.width * np.tan(2 * math.pi * turns), 0.0))
                shape = [1] * len(wide)
                shape[wide.index(child)] = points
                masses.append(values.reshape(shape))
            else:
                masses.append(np.full([1] * len(wide), self.topology.nodes[child].mass))
        return masses

    def _mean_volume(self, parent: float, children: Sequence[int]) -> float:
        """Volume of the phase space, averaged over the masses of wide children."""
        masses = self._masses_of(children)
        total = np.broadcast_arrays(*masses)
        points = None if total[0].size == 1 else {2: 1, 3: 32, 4: 16}.get(len(children), 8)
        volume = phase_space.volume(np.full(total[0].shape, parent), list(total), points)
        return float(np.mean(volume))

    def _add_vertex(self, vertex: Vertex) -> None:
        name = vertex.law.name
        produced = vertex.parent == 0 and self.topology.is_collision
        if name == "resonance":
            node = self.topology.nodes[vertex.children[0]]
            width = max(node.width, 1e-3)
            norm = 1.0 / ((self.sqrt_s**2 - node.mass**2) ** 2 + (node.mass * width) ** 2)
            self._add(1, 0, vertex.children, (node.mass, width, norm), 0)
        elif name in _PRODUCTIONS:
            self._add_production(vertex)
        elif name in _VECTOR_DECAYS:
            self._add_vector_decay(vertex)
        elif len(vertex.children) == 2:
            self._add_pair(vertex, produced)
            if name == "vector-hadron":
                self._add_hadron_mass(vertex)
        elif name == "leptonic" and all(self.topology.nodes[vertex.children[i]].mass == 0.0 for i in (0, 2)):
            self._add_leptonic(vertex)
        else:
            self._add_n_body(vertex, produced)
            if name in _SQUARES:
                self._add_square(vertex)

    def _add_production(self, vertex: Vertex) -> None:
        law = vertex.law
        self._require_fixed(vertex)
        one, two, three = vertex.children
        nodes = self.topology.nodes
        code = _PRODUCTIONS[law.name]
        if law.name == "leptons-photon" and nodes[one].species == "e-":
            code = 4
        if law.name in ("three-photons", "leptons-photon"):
            most = self.sqrt_s / 3.0
            if law.name == "leptons-photon":
                most = 0.5 * (self.sqrt_s - 4.0 * nodes[one].mass ** 2 / self.sqrt_s)
            self._check_photons(vertex, most)
        # the wider the angles, the more photons come from the beams; found by trying
        along = (law.max_cos or 0.0) * math.sqrt(1.0 - 4.0 * ELECTRON_MASS**2 / self.sqrt_s**2)
        rapidities = 2.0 * math.atanh(along)
        numbers = (law.min_energy, law.max_cos or 0.0, rapidities / (rapidities + 4.0))
        self._add(4, 0, (one, two, three), numbers, 3, law=code)

    def _check_photons(self, vertex: Vertex, most: float) -> None:
        """KinematicsError if the photons cannot have min_energy, or may have none where that makes too many of them.

        most: the most that the softest photon can have, GeV.
        """
        law = vertex.law
        products = " ".join(self.topology.nodes[child].species for child in vertex.as_written)
        if law.min_energy >= most:
            msg = (
                f"e+ e- -> {products}: min_energy is {law.min_energy:g} GeV, but"
                f" {'the softest' if law.name == 'three-photons' else 'the'} photon has at most {most:.4g} GeV"
            )
            raise KinematicsError(msg)
        if self.isr and law.min_energy == 0.0:
            msg = f"e+ e- -> {products}: with isr the law {law.name!r} needs a min_energy of the photon"
            raise KinematicsError(msg)
        if self.isr and law.max_cos == 1.0:
            msg = (
                f"e+ e- -> {products}: with isr the law {law.name!r} needs a max_cos below 1; photons along the beams"
                " would be counted twice, with the matrix element and as isr"
            )
            raise KinematicsError(msg)

    def _require_fixed(self, vertex: Vertex) -> None:
        wide = [place for place in (vertex.parent, *vertex.children) if self._is_wide(place)]
        if wide:
            msg = (
                f"{self.topology.text}: the law {vertex.law.name!r} needs fixed masses, but that of"
                f" {self.topology.nodes[wide[0]].species} has a width; use widths=False, or `narrow` in a spec"
            )
            raise KinematicsError(msg)

    def _add_pair(self, vertex: Vertex, produced: bool) -> None:
        angle, cross_section = _PAIRS[vertex.law.name]
        parameter = vertex.law.parameter or 0.0
        if vertex.law.name == "photon-pseudoscalar":
            parameter = 1.0
        from_beams = produced or (vertex.parent == self.resonance)
        axis = 1 if from_beams else 2
        draws = 1 if angle == 0 else 3
        if not produced:
            mode, norm, least, most, values = self._normalisation(vertex)
            numbers = (parameter, norm, least, most)
            self._add(2, vertex.parent, vertex.children, numbers, draws, law=angle, axis=axis, mode=mode, values=values)
            return
        varying = self.isr or self.spread > 0.0 or any(self._is_wide(child) for child in vertex.children)
        norm = 1.0
        with_photons = vertex.law.max_cos is not None
        if with_photons:
            mass = self.topology.nodes[vertex.children[1]].mass
            parameter = vertex.law.max_cos or 0.0
            self._check_photons(vertex, (self.sqrt_s**2 - mass**2) / (2.0 * self.sqrt_s))
        if vertex.law.name != "two-photons" and (varying or with_photons):
            one, two = self._masses_of(vertex.children)
            norm = float(np.mean(_pair_cross_section(vertex.law.name, self.sqrt_s, one, two, parameter)))
        numbers = (parameter, norm, 0.0, vertex.law.min_energy)
        mode = 1 if varying or with_photons else 0
        self._add(2, 0, vertex.children, numbers, draws, n=cross_section, law=angle, axis=axis, mode=mode)

    def _add_vector_decay(self, vertex: Vertex) -> None:
        mode, norm, least, most, values = self._normalisation(vertex)
        numbers = (0.0, norm, least, most)
        angles = _VECTOR_DECAYS[vertex.law.name]
        known = polarisation(self.topology, vertex.parent)
        if known != "leptons-vector":
            axis, along = _POLARISATIONS[known]
            law = angles[0] if along else angles[1]
            self._add(2, vertex.parent, vertex.children, numbers, 3, law=law, axis=axis, mode=mode, values=values)
            return
        self._add(2, vertex.parent, vertex.children, numbers, 1, mode=mode, values=values)
        if vertex.law.name == "vector-to-scalars":
            constant, slope = 0.0, 3.0
        else:
            self._require_fixed(vertex)
            from modelbuilder.kinematics import _decays

            masses = [self.topology.nodes[place].mass for place in (vertex.parent, *vertex.children)]
            anisotropy = _decays.fermion_anisotropy(*masses)
            constant, slope = (part / (1.0 + anisotropy / 3.0) for part in (1.0, anisotropy))
        children = (*self.topology.vertices[0].children, vertex.children[0])
        self._add(9, 0, children, (constant, slope), 0)

    def _add_hadron_mass(self, vertex: Vertex) -> None:
        """From the Breit-Wigner of constant width that a mass is drawn from to that of tau -> nu hadron."""
        place = vertex.children[0]
        if not self._is_wide(place):
            return
        node, parent = self.topology.nodes[place], self.topology.nodes[vertex.parent].mass
        number = getattr(known_particle(node.species), "number", 0)
        low, high = self.ranges[place]

        def ratio(mass: Floats) -> Floats:
            constant = (mass**2 - node.mass**2) ** 2 + (node.mass * node.width) ** 2
            # the momentum of the two bodies is in the weight already
            momentum = np.maximum(1.0 - (mass / parent) ** 2, 1e-12)
            density = tau.hadron_density(number, node.mass, node.width, mass, parent)
            return np.asarray(density * constant / momentum, dtype=float)

        first, last = (float(self._arctan(place, mass)) for mass in (low, high))
        turns = first + (last - first) * (np.arange(20_000) + 0.5) / 20_000
        drawn = np.sqrt(np.maximum(node.mass**2 + node.mass * node.width * np.tan(2.0 * math.pi * turns), 0.0))
        momentum = phase_space.breakup_momentum(parent, drawn, self.topology.nodes[vertex.children[1]].mass)
        norm = float(np.sum(momentum * ratio(drawn)) / np.sum(momentum))
        table = ratio(np.linspace(low, high, 4 * _TABLE)) / norm
        self._add(10, vertex.parent, vertex.children, (0.0, 0.0, low, high), 0, values=tuple(map(float, table)))

    def _add_n_body(self, vertex: Vertex, produced: bool) -> None:
        n = len(vertex.children)
        draws = (1 if n < 5 else 2) + n - 1
        if produced:
            norm = self._mean_volume(self.sqrt_s, vertex.children) / _factor(n) / self.sqrt_s**2
            self._add(3, 0, vertex.children, (0.0, norm), draws, axis=2, mode=2)
            return
        mode, norm, least, most, values = self._normalisation(vertex)
        self._add(3, vertex.parent, vertex.children, (0.0, norm, least, most), draws, mode=mode, values=values)

    def _normalisation(self, vertex: Vertex) -> tuple[int, float, float, float, tuple[float, ...]]:
        """Mode, norm, and the table with its range, for the mean weight of a decay to be 1 at any mass of its parent."""
        n = len(vertex.children)
        wide = any(self._is_wide(child) for child in vertex.children)
        if n == 2 and not wide:
            return 0, 1.0, 0.0, 0.0, ()
        low, high = self.ranges[vertex.parent]
        if not self._varies(vertex.parent):
            return 2, self._mean_volume(low, vertex.children) / _factor(n), 0.0, 0.0, ()
        least = max(decay_threshold(self.topology, vertex), 1e-9)
        steps = (high - least) * np.maximum(np.arange(_TABLE), 0.01) / (_TABLE - 1)
        volumes = np.array([self._mean_volume(least + step, vertex.children) for step in steps])
        table = np.maximum(volumes / _factor(n) / steps ** (0.5 * (3 * n - 5)), 1e-300)
        return 3, 1.0, least, high, tuple(float(value) for value in table)

    def _add_square(self, vertex: Vertex) -> None:
        self._require_fixed(vertex)
        from modelbuilder.kinematics import _decays

        code, parameter = _SQUARES[vertex.law.name], vertex.law.parameter or 0.0
        nodes = [self.topology.nodes[child] for child in vertex.children]
        masses = [node.mass for node in nodes]
        if vertex.law.name == "neutral-lepton":
            # the coupling of the left-handed lepton; W* adds 1 to that of Z* where the neutrino is its own
            same = lepton_identity(nodes[0].species)[0] == lepton_identity(nodes[1].species)[0]
            parameter = _decays.SIN2_THETA_W + (0.5 if same else -0.5)

        def square(momenta: Floats) -> Floats:
            results = np.zeros(len(momenta))
            _decays.tabulate_decay(code, parameter, momenta, masses[1], results)
            return results

        norm = phase_space.mean_square(self.topology.nodes[vertex.parent].mass, masses, square)
        self._add(5, vertex.parent, vertex.children, (parameter, norm), 0, law=code)

    def _add_leptonic(self, vertex: Vertex) -> None:
        self._require_fixed(vertex)
        nodes = self.topology.nodes
        lepton = nodes[vertex.children[1]].mass
        ratio = (lepton / nodes[vertex.parent].mass) ** 2
        # mean of (y - r)/y over the density 12 t (1 - t)^2 of t = (y - r)/(1 - r), with t = v^2 for small r
        points, weights = np.polynomial.legendre.leggauss(200)
        root = 0.5 * (points + 1.0)
        t = root**2
        density = 12.0 * t * (1.0 - t) ** 2 * 2.0 * root * 0.5 * weights
        norm = float(np.sum(density * (1.0 - ratio) * t / (ratio + (1.0 - ratio) * t)))
        self._add(8, vertex.parent, vertex.children, (lepton, norm), 4)

    def _add_spins(self) -> None:
        """The correlation of the spins of tau- and tau+ from e+e-, if both decays tell their direction."""
        first = self.topology.vertices[0]
        nodes = self.topology.nodes
        if first.law.name != "fermion-pair" or {nodes[child].species for child in first.children} != {"tau-", "tau+"}:
            return
        minus, plus = sorted(first.children, key=lambda child: nodes[child].charge)
        seen = [self._polarimeter(place) for place in (minus, plus)]
        if seen[0] is not None and seen[1] is not None:
            (place1, kind1, rest1), (place2, kind2, rest2) = seen[0], seen[1]
            self._add(7, 0, (minus, plus, place1, place2), (kind1, rest1, kind2, rest2), 0)

    def _polarimeter(self, place: int) -> tuple[int, float, float] | None:
        """The particle that tells the spin of a tau, how, and the mass of the rest; None if there is none."""
        nodes = self.topology.nodes
        vertex = next((vertex for vertex in self.topology.vertices if vertex.parent == place), None)
        if vertex is None:
            return None
        if vertex.law.name == "leptonic":
            return vertex.children[2], 1.0, 0.0
        if vertex.law.name not in ("phase-space", "vector-hadron") or len(vertex.children) != 2:
            return None
        charged, neutral = sorted(vertex.children, key=lambda child: nodes[child].charge == 0)
        number = getattr(known_particle(nodes[charged].species), "number", 0)
        if number in _PSEUDOSCALAR_MESONS:
            return charged, 2.0, nodes[neutral].mass
        if number in _VECTOR_MESONS and nodes[neutral].mass == 0.0:
            return charged, 3.0, 0.0
        return None

    def _add_flights(self, lifetimes: Mapping[str, Sequence[float]]) -> dict[str, tuple[float, ...]]:
        topology = self.topology
        flying = {}
        for vertex in topology.vertices:
            node = topology.nodes[vertex.parent]
            if node.ctau > 0.0 and not (vertex.parent == 0 and topology.is_collision):
                drawn = tuple(float(ctau) for ctau in lifetimes.get(node.species, (node.ctau,)))
                if not 1 <= len(drawn) <= MOST_LIFETIMES or not all(0.0 < ctau < math.inf for ctau in drawn):
                    msg = f"{topology.text}: lifetimes of {node.species}: one to {MOST_LIFETIMES} positive ctau in cm"
                    raise KinematicsError(msg)
                self._add(6, vertex.parent, (), (), 1, values=drawn)
                flying[node.name] = drawn
        species = {topology.nodes[topology.place(name)].species for name in flying}
        for name in lifetimes:
            if name not in species:
                msg = f"{topology.text}: lifetimes are given for {name}, which does not fly"
                raise KinematicsError(msg)
        return flying

    def _flies(self) -> Ints:
        """By node: 2 with a flight of its own, 1 with one somewhere before it, else 0."""
        flies = np.zeros(len(self.topology.nodes), dtype=np.int64)
        for place, node in enumerate(self.topology.nodes):
            if node.name in self.lifetimes:
                flies[place] = 2
            elif place > 0 and flies[self.parents[place]] > 0:
                flies[place] = 1
        return flies


def _factor(n: int) -> float:
    """(2 pi)^(n-1)/(2 (n-2)!): from T^(n-2)/M times the product of the momenta to the volume of the phase space."""
    return (2.0 * math.pi) ** (n - 1) / (2.0 * math.factorial(n - 2))


def _pair_cross_section(law: str, sqrt_s: float, one: Floats, two: Floats, parameter: float) -> Floats:
    """As `_decays.pair_cross_section`, written again: a test finds a mean weight that is not 1 if they differ."""
    s = sqrt_s**2
    p = phase_space.breakup_momentum(sqrt_s, one, two)
    result = p / sqrt_s**3
    if law == "sine-squared":
        result = p**3 / sqrt_s**5
    elif law == "fermion-pair":
        result = p / sqrt_s**3 * (1.0 + 2.0 * one**2 / s)
    elif law == "photon-pseudoscalar":
        result = (p / sqrt_s) ** 3
    elif law == "photon-vector":
        extra = 4.0 * s * two**2 / (s - two**2) ** 2
        logarithm = math.log((1.0 + parameter) / (1.0 - parameter))
        result = (1.0 - two**2 / s) / s * (2.0 * (logarithm - parameter) + extra * logarithm)
    elif law == "vector-scalar":
        y = one**2 / s
        result = p / sqrt_s * (4.0 * p**2 / s + 12.0 * y) / (s * (1.0 - y) ** 2)
    return np.asarray(result, dtype=float)
