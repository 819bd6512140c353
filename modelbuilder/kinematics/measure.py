"""What a detector measures of simulated events: momenta of the visible particles, what was found, and weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.chain import ChainEvents
from modelbuilder.kinematics.response import PERFECT, PhotonResponse
from modelbuilder.kinematics.shards import run_shards, shard_bounds, stream_key
from modelbuilder.spec.topology import TRACKS, Kind, Node, Topology, known_particle, visible_places

if TYPE_CHECKING:
    from modelbuilder.spec.experiment import ConstantEfficiency, Experiment, TableEfficiency

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Interval = tuple[float, float]
Variable = Literal["momentum", "transverse momentum", "theta", "cos theta", "rho", "z"]

FULL: tuple[Interval, ...] = ((0.0, math.pi),)
ANYWHERE: Interval = (-math.inf, math.inf)


def _check_polar(what: str, theta: tuple[Interval, ...]) -> None:
    previous = -math.inf
    for low, high in theta:
        if not (0.0 <= low < high <= math.pi and low > previous):
            msg = (
                f"{what}: polar-angle interval {math.degrees(low):g} to {math.degrees(high):g} deg; intervals must be"
                " within 0 to 180 deg, ascending and disjoint"
            )
            raise KinematicsError(msg)
        previous = high
    if not theta:
        msg = f"{what}: no polar-angle interval; use 0 to 180 deg for no cut"
        raise KinematicsError(msg)


def _check_not_negative(what: str, numbers: Mapping[str, float]) -> None:
    for name, value in numbers.items():
        if not (math.isfinite(value) and value >= 0.0):
            msg = f"{what}: {name} is {value:g}; it must not be negative"
            raise KinematicsError(msg)


def _check_efficiency(what: str, efficiency: Efficiency) -> None:
    if isinstance(efficiency, EfficiencyTable):
        if efficiency.variables == ("rho", "z"):
            msg = f"{what}: an efficiency of particles cannot be in rho and z"
            raise KinematicsError(msg)
    elif not 0.0 <= efficiency <= 1.0:
        msg = f"{what}: the efficiency is {efficiency:g}; it must be from 0 to 1"
        raise KinematicsError(msg)


def _check_ascending(what: str, numbers: Sequence[float]) -> None:
    array = np.array(numbers, dtype=float)
    if len(array) < 2 or not np.all(np.isfinite(array)) or not np.all(np.diff(array) > 0.0):
        msg = f"{what} must be at least two finite ascending numbers"
        raise KinematicsError(msg)


@dataclass(frozen=True, kw_only=True)
class TrackResponse:
    """Gaussian smearing of transverse momentum and direction.

    sigma(pt)/pt = slope pt (+) constant/beta, added in quadrature, pt in GeV.
    slope: GeV^-1.    constant: dimensionless.
    angle: standard deviation of the direction, rad: for `angles` "transverse" in each of two directions across the
        track, for "polar" of theta and of phi, which moves a forward track less. The momentum is pt over the sine of
        the measured theta.
    momentum_scale: measured over true pt.    resolution_scale: multiplies sigma(pt).    pt_floor: least pt, GeV.
    """

    slope: float
    constant: float
    angle: float
    angles: Literal["transverse", "polar"] = "transverse"
    momentum_scale: float = 1.0
    resolution_scale: float = 1.0
    pt_floor: float = 1e-3

    def __post_init__(self) -> None:
        if self.angles not in ("transverse", "polar"):
            msg = f"track response: angles is {self.angles!r}; known: transverse, polar"
            raise KinematicsError(msg)
        for name in ("slope", "constant", "angle", "resolution_scale"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                msg = f"track response: {name} is {value:g}; it must not be negative"
                raise KinematicsError(msg)
        for name in ("momentum_scale", "pt_floor"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0.0):
                msg = f"track response: {name} is {value:g}; it must be positive"
                raise KinematicsError(msg)


@dataclass(frozen=True, kw_only=True)
class EfficiencyTable:
    """Efficiency in bins of two variables of the true particle, or of a decay point.

    variables: (momentum or transverse momentum, theta or cos theta), GeV and rad, or (rho, z), cm.
    first_edges, second_edges: ascending. What lies outside belongs to the bin at the edge.
    values: from 0 to 1, shape (n_first, n_second).    uncertainties: of the same shape, or empty.
    """

    variables: tuple[Variable, Variable] = ("momentum", "theta")
    first_edges: tuple[float, ...]
    second_edges: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    uncertainties: tuple[tuple[float, ...], ...] = ()

    def __post_init__(self) -> None:
        first, second = self.variables
        particle = first in ("momentum", "transverse momentum") and second in ("theta", "cos theta")
        if not particle and (first, second) != ("rho", "z"):
            msg = (
                f"efficiency table: variables {first!r} and {second!r}; there are momentum or transverse momentum with"
                " theta or cos theta, and rho with z"
            )
            raise KinematicsError(msg)
        for variable, edges in zip(self.variables, (self.first_edges, self.second_edges), strict=True):
            _check_ascending(f"efficiency table: edges of {variable}", edges)
        shape = (len(self.first_edges) - 1, len(self.second_edges) - 1)
        tables = [self.values, self.uncertainties] if self.uncertainties else [self.values]
        for table in tables:
            if (len(table), *{len(row) for row in table}) != shape:
                msg = f"efficiency table: {shape[0]} x {shape[1]} bins need as many values"
                raise KinematicsError(msg)
        if not all(0.0 <= value <= 1.0 for row in self.values for value in row):
            msg = "efficiency table: every value must be from 0 to 1"
            raise KinematicsError(msg)

    def shifted(self, n_sigma: float) -> EfficiencyTable:
        """Every value moved by so many of its uncertainties, within 0 and 1."""
        if not self.uncertainties:
            msg = "efficiency table: it has no uncertainties, so it cannot be shifted"
            raise KinematicsError(msg)
        moved = np.array(self.values) + n_sigma * np.array(self.uncertainties)
        values = tuple(tuple(float(value) for value in row) for row in np.clip(moved, 0.0, 1.0))
        return replace(self, values=values)

    def multiply(self, first: Floats, second: Floats, factors: Floats) -> None:
        """Multiply factors by the efficiency; `second` is the cosine for theta too; all of shape (n,)."""
        from modelbuilder.kinematics import _measure

        first_edges, second_edges, values = self._arrays
        _measure.multiply_by_table(first, second, first_edges, second_edges, values, factors)

    @functools.cached_property
    def _arrays(self) -> tuple[Floats, Floats, Floats]:
        """Edges, of the cosine for theta too, and values."""
        second_edges, values = np.array(self.second_edges), np.array(self.values)
        if self.variables[1] == "theta":
            second_edges, values = np.cos(second_edges)[::-1].copy(), values[:, ::-1].copy()
        return np.array(self.first_edges), second_edges, values


Efficiency = float | EfficiencyTable
_Change = Callable[[Efficiency], Efficiency]


@dataclass(frozen=True, kw_only=True)
class Calorimeter:
    """The inner surface on which photons are measured: a cylinder about the detector axis with two ends, cm."""

    radius: float
    z_low: float
    z_high: float

    def __post_init__(self) -> None:
        if not (0.0 < self.radius < math.inf and self.z_low < 0.0 < self.z_high):
            msg = (
                f"calorimeter: radius {self.radius:g} cm, ends at {self.z_low:g} and {self.z_high:g} cm; the radius must"
                " be positive and the origin between the ends"
            )
            raise KinematicsError(msg)


@dataclass(frozen=True, kw_only=True)
class PhotonDetector:
    """Photons: response, polar intervals (rad, reconstructed), thresholds and efficiency.

    min_energy: GeV, measured.    efficiency: to find one that is inside and above.
    min_opening_angle: two found photons closer than this are one cluster, with the sum of the energies, rad.
    calorimeter: if given, the direction is that from the origin to where the photon hits it; a photon from a decay
        outside of it is lost. If not, it is the true direction, wherever the photon comes from.
    """

    response: PhotonResponse = PERFECT
    theta: tuple[Interval, ...] = FULL
    min_energy: float = 0.0
    min_opening_angle: float = 0.0
    efficiency: Efficiency = 1.0
    calorimeter: Calorimeter | None = None

    def __post_init__(self) -> None:
        _check_polar("photons", self.theta)
        _check_not_negative("photons", {"min_energy": self.min_energy, "min_opening_angle": self.min_opening_angle})
        _check_efficiency("photons", self.efficiency)


@dataclass(frozen=True, kw_only=True)
class TrackVolume:
    """The cylinder about the detector axis in which a track must begin to be found, cm."""

    rho: float
    z_low: float
    z_high: float

    def __post_init__(self) -> None:
        if not (self.rho > 0.0 and self.z_low < 0.0 < self.z_high):
            msg = (
                f"track volume: rho {self.rho:g} cm, ends at {self.z_low:g} and {self.z_high:g} cm; rho must be positive"
                " and the origin between the ends"
            )
            raise KinematicsError(msg)

    def holds(self, point: Floats) -> npt.NDArray[np.bool_]:
        """Whether points lie inside; laboratory, shape (3, n)."""
        x, y, z = point
        inside: npt.NDArray[np.bool_] = (x * x + y * y <= self.rho**2) & (z >= self.z_low) & (z <= self.z_high)
        return inside


@dataclass(frozen=True, kw_only=True)
class TrackDetector:
    """Charged particles: response, polar intervals (rad, reconstructed), thresholds and efficiencies.

    min_transverse_momentum, min_momentum: GeV, measured.    efficiency: to find one that is inside and above.
    volume: a track that begins outside is not found; None for any place.
    identification: by (what it is, what it is taken for). Without an entry a particle is what it is with efficiency 1,
        and cannot be taken for anything else.
    """

    response: TrackResponse = TrackResponse(slope=0.0, constant=0.0, angle=0.0)
    theta: tuple[Interval, ...] = FULL
    min_transverse_momentum: float = 0.0
    min_momentum: float = 0.0
    volume: TrackVolume | None = None
    efficiency: Efficiency = 1.0
    identification: tuple[tuple[Kind, Kind, Efficiency], ...] = ()

    def __post_init__(self) -> None:
        _check_polar("tracks", self.theta)
        thresholds = {name: getattr(self, name) for name in ("min_transverse_momentum", "min_momentum")}
        _check_not_negative("tracks", thresholds)
        _check_efficiency("tracks", self.efficiency)
        for true, seen, efficiency in self.identification:
            for kind in (true, seen):
                if kind not in TRACKS:
                    msg = f"tracks: identification of a {kind}; there are {', '.join(TRACKS)}"
                    raise KinematicsError(msg)
            _check_efficiency(f"tracks: {true} as {seen}", efficiency)

    def identification_of(self, true: Kind, seen: Kind) -> Efficiency:
        """Probability that one is taken for the other; KinematicsError if it is not known."""
        for known_true, known_seen, efficiency in self.identification:
            if (known_true, known_seen) == (true, seen):
                return efficiency
        if true == seen:
            return 1.0
        known = ", ".join(f"{one} as {two}" for one, two, _ in self.identification) or "none"
        msg = f"tracks: no probability to take a {true} for a {seen}; known: {known}"
        raise KinematicsError(msg)


@dataclass(frozen=True, kw_only=True)
class VertexAcceptance:
    """Where a decay is found: cylinder coordinates in the laboratory, cm, and the efficiency there.

    rho, z: ranges of the measured point.    resolution: standard deviation of each coordinate of the point, cm.
    efficiency: (rho, efficiency) points, linear between and constant beyond; of the true point.
    table: in bins of rho and z, of the true point; multiplies `efficiency`.
    """

    rho: Interval = (0.0, math.inf)
    z: Interval = ANYWHERE
    resolution: float = 0.0
    efficiency: tuple[tuple[float, float], ...] = ()
    table: EfficiencyTable | None = None

    def __post_init__(self) -> None:
        for name, (low, high) in (("rho", self.rho), ("z", self.z)):
            if not low < high:
                msg = f"vertex acceptance: {name} from {low:g} to {high:g} cm; it must be ascending"
                raise KinematicsError(msg)
        _check_not_negative("vertex acceptance", {"resolution": self.resolution})
        if self.efficiency:
            _check_ascending("vertex acceptance: rho of the efficiency", [rho for rho, _ in self.efficiency])
            if not all(0.0 <= value <= 1.0 for _, value in self.efficiency):
                msg = "vertex acceptance: every efficiency must be from 0 to 1"
                raise KinematicsError(msg)
        if self.table is not None and self.table.variables != ("rho", "z"):
            msg = "vertex acceptance: the table must be in rho and z"
            raise KinematicsError(msg)


@dataclass(frozen=True, kw_only=True)
class Detector:
    """Photons and tracks."""

    photons: PhotonDetector = PhotonDetector()
    tracks: TrackDetector = TrackDetector()


@dataclass(frozen=True, kw_only=True)
class MeasuredEvents:
    """What was measured of the events of a chain.

    names: of the visible particles, in the order of the chain.
    momenta: laboratory E, px, py, pz, GeV; shape (n_events, n_visible, 4); E with the mass that a track is taken for.
    points: measured decay points of all nodes, laboratory, cm; shape (n_events, n_nodes, 3); true where no resolution
        is given.
    flags: why a particle is not found, bits of `_measure`; 0 and 16 (a cluster of several photons) are found;
        shape (n_events, n_visible).
    finding: efficiency to find a particle inside the acceptance, same shape.
    efficiencies: the same times that to take it for what it is taken for.
    weights: of the event: the simulated one, times what the required particles and vertices are found with and the
        vetoed ones not found with; 0 if that cannot be. Shape (n_events,).
    true_weights: the simulated ones.
    masses: what the visible particles are taken for, GeV.
    """

    topology: Topology
    names: tuple[str, ...]
    momenta: Floats
    points: Floats
    flags: npt.NDArray[np.uint8]
    finding: Floats
    efficiencies: Floats
    weights: Floats
    true_weights: Floats
    masses: tuple[float, ...]

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """Whether a particle is inside the acceptance, above threshold and a cluster of its own."""
        from modelbuilder.kinematics import _measure

        found: npt.NDArray[np.bool_] = (self.flags & _measure.LOST) == 0
        return found

    def candidate_weights(self, seen: Sequence[int], vetoed: Sequence[int]) -> Floats:
        """Weights of the events in which these are found and those are not; shape (n_events,).

        seen, vetoed: positions among the visible particles.
        """
        found = self.found
        weights = self.weights.copy()
        for i in seen:
            weights *= np.where(found[:, i], self.efficiencies[:, i], 0.0)
        for i in vetoed:
            weights *= np.where(found[:, i], 1.0 - self.finding[:, i], 1.0)
        return weights


def measure(
    events: ChainEvents,
    detector: Detector,
    *,
    seed: int,
    stream: str,
    required: Sequence[str] | None = None,
    vetoed: Sequence[str] = (),
    seen_as: Mapping[str, Kind] | None = None,
    vertices: Mapping[str, VertexAcceptance] | None = None,
    first_event: int = 0,
    n_threads: int | None = None,
) -> MeasuredEvents:
    """Measure simulated events.

    seed, stream: the random numbers are a function of these, of the number of the event and of the particle: the same
        in every variation of the detector.
    required: names of the particles that must be found, in the acceptance and by the efficiency; None for all visible
        ones that are not vetoed.    vetoed: names of those that must not be found. The rest may be or not.
    seen_as: by name, what a track is taken for if not for what it is.
    vertices: by name of a particle that decays, where the decay must be found.
    first_event: number of the first of these events, if they are a part of a larger sample.
    n_threads: None for one per processor. The result is the same bit for bit.
    """
    topology = events.topology
    if first_event < 0:
        msg = f"measurement: first_event is {first_event}; it must not be negative"
        raise KinematicsError(msg)
    if n_threads is not None and n_threads < 1:
        msg = f"measurement: n_threads is {n_threads}; it must be at least 1"
        raise KinematicsError(msg)
    particles = Particles.of(topology, seen_as or {})
    places, nodes, seen, masses = particles.places, particles.nodes, particles.seen, particles.masses
    names = tuple(node.name for node in nodes)
    vetoes = [_position(topology, names, name) for name in vetoed]
    needs = [i for i in range(len(names)) if i not in vetoes]
    if required is not None:
        needs = [_position(topology, names, name) for name in required]
        both = [name for name in required if name in vetoed]
        if both:
            msg = f"{topology.text}: {both[0]} is required and vetoed"
            raise KinematicsError(msg)
    momenta = np.ascontiguousarray(events.momenta.transpose(1, 2, 0))
    points = np.ascontiguousarray(events.points.transpose(1, 2, 0))
    key = measurement_key(seed, stream)
    measured, flags = _run(detector, momenta, points, places, nodes, masses, key, first_event, n_threads)
    if detector.tracks.volume is not None:
        _lose_far_tracks(detector.tracks.volume, topology, places, points, flags)

    n = momenta.shape[2]
    factors, finding = np.ones((len(places), n)), np.ones((len(places), n))
    for i, (place, node, kind) in enumerate(zip(places, nodes, seen, strict=True)):
        part = detector.photons if node.kind == "photon" else detector.tracks
        efficiency_of_particle(part.efficiency, momenta[place], finding[i])
        factors[i] = finding[i]
        if node.kind != "photon":
            efficiency_of_particle(detector.tracks.identification_of(node.kind, kind), momenta[place], factors[i])
    weights = events.weights.copy()
    from modelbuilder.kinematics import _measure

    found = (flags & _measure.LOST) == 0
    for i in needs:
        weights *= np.where(found[i], factors[i], 0.0)
    for i in vetoes:
        weights *= np.where(found[i], 1.0 - finding[i], 1.0)
    measured_points = points
    for name, vertex in (vertices or {}).items():
        if measured_points is points:
            measured_points = points.copy()
        find_vertex(topology, name, vertex, points, measured_points, key, first_event, weights)
    return MeasuredEvents(
        topology=topology,
        names=names,
        momenta=measured.transpose(2, 0, 1),
        points=measured_points.transpose(2, 0, 1),
        flags=flags.T,
        finding=finding.T,
        efficiencies=factors.T,
        weights=weights,
        true_weights=events.weights,
        masses=masses,
    )


def measurement_key(seed: int, stream: str) -> npt.NDArray[np.uint64]:
    """Of the random numbers of the measurement."""
    return np.array(stream_key(seed, f"{stream}/measurement"), dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class Particles:
    """The visible particles of a chain: places, nodes, what they are taken for, and the masses of that, GeV."""

    topology: Topology
    places: tuple[int, ...]
    nodes: tuple[Node, ...]
    seen: tuple[Kind, ...]
    masses: tuple[float, ...]

    @classmethod
    def of(cls, topology: Topology, seen_as: Mapping[str, Kind]) -> Particles:
        """seen_as: by name, what a track is taken for if not for what it is."""
        places = visible_places(topology)
        nodes = tuple(topology.nodes[place] for place in places)
        seen = tuple(_seen_kinds(topology, nodes, dict(seen_as)))
        masses = tuple(
            node.mass if kind == node.kind else _mass_of(kind) for node, kind in zip(nodes, seen, strict=True)
        )
        return cls(topology=topology, places=places, nodes=nodes, seen=seen, masses=masses)


def truth(events: ChainEvents) -> MeasuredEvents:
    """The true momenta of the visible particles, all found."""
    places = visible_places(events.topology)
    nodes = [events.topology.nodes[place] for place in places]
    shape = (len(events.weights), len(places))
    return MeasuredEvents(
        topology=events.topology,
        names=tuple(node.name for node in nodes),
        momenta=events.momenta[:, list(places)],
        points=events.points,
        flags=np.zeros(shape, dtype=np.uint8),
        finding=np.ones(shape),
        efficiencies=np.ones(shape),
        weights=events.weights,
        true_weights=events.weights,
        masses=tuple(node.mass for node in nodes),
    )


def detector_of(experiment: Experiment) -> Detector:
    """The detector of an experiment file."""
    photons, tracks = experiment.photons, experiment.tracks
    energy, momentum, surface = photons.energy_resolution, tracks.momentum_resolution, photons.surface
    volume = tracks.volume
    return Detector(
        photons=PhotonDetector(
            response=PhotonResponse(
                noise=energy.noise,
                stochastic=energy.stochastic,
                constant=energy.constant,
                angle=photons.angle_resolution.at_1_gev,
            ),
            theta=tuple(sorted((part.low, part.high) for part in photons.acceptance)),
            min_energy=photons.minimum_energy,
            min_opening_angle=photons.minimum_opening_angle,
            efficiency=_efficiency_of(photons.efficiency),
            calorimeter=None
            if surface is None
            else Calorimeter(radius=surface.radius, z_low=surface.z_low, z_high=surface.z_high),
        ),
        tracks=TrackDetector(
            response=TrackResponse(slope=momentum.slope, constant=momentum.constant, angle=tracks.angle_resolution),
            theta=tuple(sorted((part.low, part.high) for part in tracks.acceptance)),
            min_transverse_momentum=tracks.minimum_transverse_momentum,
            volume=TrackVolume(rho=volume.rho, z_low=volume.z[0], z_high=volume.z[1]),
            efficiency=_efficiency_of(tracks.efficiency),
            identification=tuple(
                (entry.particle, entry.taken_for, _efficiency_of(entry.efficiency)) for entry in tracks.identification
            ),
        ),
    )


_VARIABLES: dict[str, Variable] = {
    "momentum": "momentum",
    "transverse_momentum": "transverse momentum",
    "theta": "theta",
    "cos_theta": "cos theta",
}


def _efficiency_of(given: ConstantEfficiency | TableEfficiency) -> Efficiency:
    if not hasattr(given, "binned"):
        return given.value
    table = given.binned()
    first, second = (_VARIABLES[name] for name in table.variables)
    return EfficiencyTable(
        variables=(first, second),
        first_edges=table.first_edges,
        second_edges=table.second_edges,
        values=table.values,
        uncertainties=table.uncertainties,
    )


def varied_detector(detector: Detector, vary: str, change: float) -> Detector:
    """The detector with one of its parameters, named as in a shape systematic, changed by a relative amount.

    change: of `..._table` so many uncertainties of each bin; what has none stays. Efficiencies stay within 0 and 1.
    """
    part, _, what = vary.partition(".")
    factor = max(0.0, 1.0 + change)

    def varied(efficiency: Efficiency) -> Efficiency:
        return _shifted(efficiency, change) if what.endswith("_table") else _scaled(efficiency, factor)

    if part == "photons":
        photons = _varied_photons(detector.photons, what, factor, varied)
        return replace(detector, photons=photons)
    return replace(detector, tracks=_varied_tracks(detector.tracks, what, factor, varied))


def _varied_photons(photons: PhotonDetector, what: str, factor: float, varied: _Change) -> PhotonDetector:
    if what.startswith("efficiency"):
        return replace(photons, efficiency=varied(photons.efficiency))
    return replace(photons, response=photons.response.varied(what, factor))


def _varied_tracks(tracks: TrackDetector, what: str, factor: float, varied: _Change) -> TrackDetector:
    response = tracks.response
    if what == "momentum_scale":
        return replace(tracks, response=replace(response, momentum_scale=response.momentum_scale * factor))
    if what == "momentum_resolution":
        return replace(tracks, response=replace(response, resolution_scale=response.resolution_scale * factor))
    if what == "angle_resolution":
        return replace(tracks, response=replace(response, angle=response.angle * factor))
    what = what.removesuffix("_table")
    if what == "efficiency":
        return replace(tracks, efficiency=varied(tracks.efficiency))
    right = {"identification": True, "misidentification": False}[what]
    identification = tuple(
        (true, seen, varied(efficiency) if (true == seen) == right else efficiency)
        for true, seen, efficiency in tracks.identification
    )
    return replace(tracks, identification=identification)


def _shifted(efficiency: Efficiency, n_sigma: float) -> Efficiency:
    if isinstance(efficiency, EfficiencyTable) and efficiency.uncertainties:
        return efficiency.shifted(n_sigma)
    return efficiency


def _scaled(efficiency: Efficiency, factor: float) -> Efficiency:
    if isinstance(efficiency, EfficiencyTable):
        values = np.minimum(factor * np.array(efficiency.values), 1.0)
        return replace(efficiency, values=tuple(tuple(float(value) for value in row) for row in values))
    return min(factor * efficiency, 1.0)


def _run(
    detector: Detector,
    momenta: Floats,
    points: Floats,
    places: tuple[int, ...],
    nodes: Sequence[Node],
    masses: tuple[float, ...],
    key: npt.NDArray[np.uint64],
    first_event: int,
    n_threads: int | None,
) -> tuple[Floats, npt.NDArray[np.uint8]]:
    from modelbuilder.kinematics import _measure, _random

    n = momenta.shape[2]
    measured = np.zeros((1, len(places), 4, n))
    flags = np.zeros((1, len(places), n), dtype=np.uint8)
    physics: tuple[Any, ...] = (
        int(first_event),
        key,
        np.array(places, dtype=np.int64),
        kinds_of(nodes),
        np.array(masses, dtype=float),
        *responses([response_numbers(detector)]),
        momenta,
        points,
        measured,
        flags,
    )
    bounds = shard_bounds(n, _random.BLOCK)

    def run(shard: int) -> None:
        _measure.measure_shard(int(bounds[shard]), int(bounds[shard + 1]), *physics)

    run_shards(run, len(bounds) - 1, n_threads)
    return measured[0], flags[0]


def kinds_of(nodes: Sequence[Node]) -> Ints:
    """PHOTON or TRACK of `_measure`."""
    from modelbuilder.kinematics import _measure

    return np.array([_measure.PHOTON if node.kind == "photon" else _measure.TRACK for node in nodes], dtype=np.int64)


ResponseNumbers = tuple[tuple[float, ...], ...]
"""Of photons, tracks and the calorimeter, then the cosines of the polar intervals of photons and of tracks."""


def response_numbers(detector: Detector) -> ResponseNumbers:
    """What the kernels of `_measure` take of a detector: all but its efficiencies."""
    photons, tracks, surface = detector.photons, detector.tracks, detector.photons.calorimeter
    energy, momentum = photons.response, tracks.response
    return (
        (
            float(energy.noise),
            float(energy.stochastic),
            float(energy.constant),
            float(energy.angle),
            float(energy.energy_scale),
            float(energy.resolution_scale),
            float(energy.energy_floor),
            float(photons.min_energy),
            4.0 * math.sin(0.5 * photons.min_opening_angle) ** 2,
        ),
        (
            float(momentum.slope),
            float(momentum.constant),
            float(momentum.angle),
            1.0 if momentum.angles == "polar" else 0.0,
            float(momentum.momentum_scale),
            float(momentum.resolution_scale),
            float(momentum.pt_floor),
            float(tracks.min_transverse_momentum),
            float(tracks.min_momentum),
        ),
        (0.0, 0.0, 0.0) if surface is None else (float(surface.radius), float(surface.z_low), float(surface.z_high)),
        _cosines(photons.theta),
        _cosines(tracks.theta),
    )


def responses(rows: Sequence[ResponseNumbers]) -> tuple[Floats, ...]:
    """The same of several detectors as arrays: the first three with a row each, the cosines of shape (n, 2, n_most)."""
    plain = [np.array([row[part] for row in rows], dtype=float) for part in range(3)]
    cosines = []
    for part in (3, 4):
        most = max(len(row[part]) for row in rows) // 2
        table = np.full((len(rows), 2, most), 2.0)  # what is missing contains no cosine
        for entry, row in zip(table, rows, strict=True):
            entry[:, : len(row[part]) // 2] = np.reshape(row[part], (2, -1))
        cosines.append(table)
    return (*plain, *cosines)


def _lose_far_tracks(
    volume: TrackVolume, topology: Topology, places: tuple[int, ...], points: Floats, flags: npt.NDArray[np.uint8]
) -> None:
    """Mark the tracks that begin outside of the volume, where something before them flew; flags: (n_visible, n)."""
    from modelbuilder.kinematics import _measure

    for i in displaced_tracks(topology, places):
        flags[i] |= np.where(volume.holds(points[places[i]]), 0, _measure.MISSED).astype(np.uint8)


def displaced_tracks(topology: Topology, places: tuple[int, ...]) -> list[int]:
    """Which of the visible particles are tracks that may begin away from the collision: something before them flies."""
    displaced = [False] * len(topology.nodes)
    for vertex in topology.vertices:  # parents come before their children
        for child in vertex.children:
            displaced[child] = displaced[vertex.parent] or topology.nodes[vertex.parent].ctau > 0.0
    return [i for i, place in enumerate(places) if displaced[place] and topology.nodes[place].kind != "photon"]


def _cosines(theta: tuple[Interval, ...]) -> tuple[float, ...]:
    """Least cosines of polar intervals, then the largest."""
    return (*(math.cos(high) for _, high in theta), *(math.cos(low) for low, _ in theta))


def efficiency_of_particle(efficiency: Efficiency, momentum: Floats, factors: Floats) -> None:
    """Multiply factors by the efficiency of a particle of true momentum, shape (4, n)."""
    if not isinstance(efficiency, EfficiencyTable):
        factors *= efficiency
        return
    _, x, y, z = momentum
    p = np.sqrt(x**2 + y**2 + z**2)
    first = p if efficiency.variables[0] == "momentum" else np.hypot(x, y)
    with np.errstate(invalid="ignore", divide="ignore"):  # events of weight 0 may have no momenta
        cosine = z / p
    efficiency.multiply(first, cosine, factors)


def find_vertex(
    topology: Topology,
    name: str,
    vertex: VertexAcceptance,
    points: Floats,
    measured: Floats,
    key: npt.NDArray[np.uint64],
    first_event: int,
    weights: Floats,
) -> None:
    from modelbuilder.kinematics import _measure

    place = _checked_place(topology, name)
    if not topology.children(place):
        msg = f"{topology.text}: {name} does not decay, so it has no vertex"
        raise KinematicsError(msg)
    x, y, z = points[place]
    rho = np.hypot(x, y)
    if vertex.efficiency:
        table = np.array(vertex.efficiency)
        _measure.multiply_by_line(rho, table[:, 0].copy(), table[:, 1].copy(), weights)
    if vertex.table is not None:
        vertex.table.multiply(rho, np.ascontiguousarray(z), weights)
    if vertex.resolution > 0.0:
        _measure.smear_points(points[place], first_event, place, key, float(vertex.resolution), measured[place])
        x, y, z = measured[place]
        rho = np.hypot(x, y)
    inside = (rho >= vertex.rho[0]) & (rho <= vertex.rho[1]) & (z >= vertex.z[0]) & (z <= vertex.z[1])
    weights *= inside


def _seen_kinds(topology: Topology, nodes: Sequence[Node], seen_as: dict[str, Kind]) -> list[Kind]:
    names = tuple(node.name for node in nodes)
    for name, kind in seen_as.items():
        node = nodes[_position(topology, names, name)]
        if kind not in TRACKS or node.kind not in TRACKS:
            msg = (
                f"{topology.text}: {name}, a {node.kind}, cannot be taken for a {kind}; tracks are: {', '.join(TRACKS)}"
            )
            raise KinematicsError(msg)
    return [seen_as.get(node.name, node.kind) for node in nodes]


def _mass_of(kind: Kind) -> float:
    known = known_particle(TRACKS[kind])
    if known is None:
        msg = f"the table of particles has no {TRACKS[kind]}"
        raise KinematicsError(msg)
    return known.mass


def _checked_place(topology: Topology, name: str) -> int:
    """Place of a node; KinematicsError with the nearest name."""
    known = [node.name for node in topology.nodes]
    if name in known:
        return known.index(name)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known[1:])}"
    msg = f"{topology.text}: there is no {name}; {hint}"
    raise KinematicsError(msg)


def _position(topology: Topology, names: tuple[str, ...], name: str) -> int:
    """Position among the visible particles."""
    node = topology.nodes[_checked_place(topology, name)]
    if name not in names:
        why = "decays" if topology.children(topology.place(name)) else "is not seen by the detector"
        msg = f"{topology.text}: {node.name} {why}; visible are {', '.join(names) or 'none'}"
        raise KinematicsError(msg)
    return names.index(name)
