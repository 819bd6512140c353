"""Whether the cuts on simulated photons leave room for everything that a selection could take.

A law that makes photons has cuts on the true ones, in the rest frame of the nominal beams. Photons that are found must
not come from outside of them, by `SIGMAS` standard deviations of the detector; a photon that is vetoed may be lost along
the beams, so they must reach beyond the calorimeter, and below its threshold.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.cuts import Cut, ThresholdTurnOn
from modelbuilder.spec.experiment import Beams, Experiment, PhotonEnergyResolution
from modelbuilder.spec.observables import Observable, parse_observable
from modelbuilder.spec.process import Candidate, FinalState, Simulated, candidates_of, chain_of, needs_photon_cuts
from modelbuilder.spec.topology import Topology, visible_places

SIGMAS = 6.0
# Photons of these laws have one energy at one sqrt(s).
_FIXED_ENERGY = ("photon-vector", "two-photons")


@dataclass(frozen=True)
class Reach:
    """Least energy (GeV) and largest |cos| of photons in the rest frame of the nominal beams."""

    min_energy: float
    max_cos: float


@dataclass(frozen=True)
class _Bounds:
    """Of a measured photon: polar ranges, least energy in the laboratory; the same in the e+e- frame."""

    theta: tuple[tuple[float, float], ...]
    energy: float
    theta_cm: tuple[float, float] = (0.0, math.pi)
    energy_cm: float = 0.0


def refusals(
    topology: Topology,
    candidates: Sequence[Candidate],
    cuts: Sequence[Cut],
    experiment: Experiment,
    *,
    radiates: bool,
    follows_from_selection: bool = False,
) -> Iterator[str]:
    """What is wrong with the cuts on the simulated photons of a chain: events of the selection would be missing.

    follows_from_selection: whether the cuts are found from the selection, which must then find every photon.
    """
    law = topology.vertices[0].law
    if law.max_cos is None:
        return
    photons = _photons(topology)
    for candidate in candidates:
        seen = {place for place, _ in candidate.seen}
        if follows_from_selection:
            if not seen >= {*photons}:
                yield (
                    "cuts on simulated photons follow from the selection only if every photon is found; give them:"
                    f" {{law: {law.name}, min_energy: 10 MeV, max_cos: 0.9999}}, the values as you need them"
                )
                return
            continue
        for place in photons:
            if place in seen:
                needed = _reach(_bounds(topology, candidate, place, cuts, experiment), experiment)
                if law.max_cos < needed.max_cos:
                    yield (
                        f"the law {law.name!r} makes photons up to |cos| = {law.max_cos:g} in the e+e- frame, but photons"
                        f" that are found can come from up to {_up(needed.max_cos)}; {_remedy_angle(needed.max_cos)}"
                    )
                    return
                fixed = law.name in _FIXED_ENERGY and not radiates
                if law.min_energy > needed.min_energy and not fixed:
                    yield (
                        f"the law {law.name!r} makes photons above {law.min_energy:g} GeV in the e+e- frame, but photons"
                        f" that are found can have {needed.min_energy:.3g} GeV;"
                        f" {_remedy_energy(needed.min_energy)}"
                    )
                    return
            elif place in candidate.vetoed:
                edge = min(_instrumented(experiment).max_cos, _recoil(topology, candidate, cuts, experiment))
                if law.max_cos < edge:
                    yield (
                        f"the law {law.name!r} makes photons up to |cos| = {law.max_cos:g} in the e+e- frame, but"
                        f" the calorimeter reaches {_up(edge)}: photons that are vetoed, and lost along the beams, are"
                        " missing; raise max_cos to 0.999 or more, or cut on recoil_theta of all that is found"
                    )
                    return


def warnings_of(process: Simulated, final_state: FinalState | None, experiment: Experiment) -> Iterator[str]:
    """`warnings` of a sample that does not depend on the grid."""
    if final_state is None or needs_photon_cuts(process):
        return  # everything visible is found, or the cuts follow from the selection
    topology = chain_of(process, {}, sqrt_s=experiment.beams.sqrt_s)
    yield from warnings(topology, candidates_of(topology, final_state, process.taken_for), experiment)


def warnings(topology: Topology, candidates: Sequence[Candidate], experiment: Experiment) -> Iterator[str]:
    """What the cuts on simulated photons leave out of those that are not found."""
    law = topology.vertices[0].law
    if law.max_cos is None or law.name in _FIXED_ENERGY:
        return
    photons = _photons(topology)
    for candidate in candidates:
        seen = {place for place, _ in candidate.seen}
        if seen >= {*photons}:
            continue
        free = any(place not in seen and place not in candidate.vetoed for place in photons)
        least = _instrumented(experiment).min_energy
        if free or law.min_energy > least:
            where = "a photon that nothing looks at" if free else f"a photon below the threshold, {least:.3g} GeV"
            yield (
                f"events with {where} are made only above min_energy = {law.min_energy:g} GeV in the e+e- frame; softer"
                " photons are missing"
            )
            return


def _remedy_angle(needed: float) -> str:
    if needed >= 1.0:
        return "cut on theta of the photons, so that the beams are out of reach"
    return f"raise max_cos to {_up(needed)} or more, or cut on theta of the photons"


def _remedy_energy(needed: float) -> str:
    if needed <= 0.0:
        return "cut on their energy"
    return "lower min_energy, or cut on their energy"


def _up(cosine: float) -> str:
    return f"{math.ceil(cosine * 1e4) / 1e4:g}"


def _photons(topology: Topology) -> tuple[int, ...]:
    """Places of the photons that the law of the production makes."""
    return tuple(child for child in topology.vertices[0].children if topology.nodes[child].species == "gamma")


def _bounds(
    topology: Topology, candidate: Candidate, place: int, cuts: Sequence[Cut], experiment: Experiment
) -> _Bounds:
    """What the detector and the cuts on a single photon ask of one that is found."""
    theta = [(polar.low, polar.high) for polar in experiment.photons.acceptance]
    energy, energy_cm, theta_cm = experiment.photons.minimum_energy, 0.0, (0.0, math.pi)
    position = visible_places(topology).index(place)
    for cut in cuts:
        try:
            observable = parse_observable(cut.quantity, topology, candidate.seen)
        except KinematicsError:
            continue  # reported elsewhere
        if not _binds(cut, observable, position):
            continue
        if cut.turn_on is None:
            low, high = cut.bounds
        elif isinstance(cut.turn_on, ThresholdTurnOn):
            threshold, width, _ = cut.threshold
            low, high = threshold - SIGMAS * width, math.inf
        else:
            continue
        if observable.function == "theta":
            theta = [(max(a, low), min(b, high)) for a, b in theta if max(a, low) < min(b, high)]
        elif observable.function == "theta_cm":
            theta_cm = (max(theta_cm[0], low), min(theta_cm[1], high))
        elif observable.function in ("energy", "momentum") and not observable.per_sqrt_s:
            energy = max(energy, low)
        elif observable.function in ("energy_cm", "momentum_cm"):
            scale = experiment.beams.sqrt_s if observable.per_sqrt_s else 1.0
            energy_cm = max(energy_cm, low * scale)
    return _Bounds(theta=tuple(theta), energy=energy, theta_cm=theta_cm, energy_cm=energy_cm)


def _recoil(topology: Topology, candidate: Candidate, cuts: Sequence[Cut], experiment: Experiment) -> float:
    """Largest |cos| that the direction of what is missing leaves to a photon that is lost; without a margin."""
    visible = visible_places(topology)
    found = {visible.index(place) for place, _ in candidate.seen}
    most = 1.0
    for cut in cuts:
        try:
            observable = parse_observable(cut.quantity, topology, candidate.seen)
        except KinematicsError:
            continue
        against_all = len(observable.entries) == 1 and {*observable.entries[0][0]} == found
        if observable.function in ("recoil_theta", "missing_theta") and against_all and cut.turn_on is None:
            low, high = cut.bounds
            bounds = _Bounds(((max(low, 0.0), min(high, math.pi)),), experiment.photons.minimum_energy)
            most = min(most, _reach(bounds, experiment, sigmas=0.0).max_cos)
    return most


def _binds(cut: Cut, observable: Observable, position: int) -> bool:
    """Whether a cut holds for this photon alone, in every event that passes."""
    entries = observable.entries
    return ((position,),) in entries and (cut.at_least is None or cut.at_least >= len(entries))


def _instrumented(experiment: Experiment) -> Reach:
    """Of photons that the calorimeter sees, without a margin."""
    theta = [(polar.low, polar.high) for polar in experiment.photons.acceptance]
    return _reach(_Bounds(tuple(theta), experiment.photons.minimum_energy), experiment, sigmas=0.0)


def _reach(bounds: _Bounds, experiment: Experiment, sigmas: float = SIGMAS) -> Reach:
    """Of true photons that could be measured within the bounds."""
    photons = experiment.photons
    return _reach_of(bounds, experiment.beams, photons.energy_resolution, photons.angle_resolution.at_1_gev, sigmas)


@functools.lru_cache(maxsize=1024)
def _reach_of(bounds: _Bounds, beams: Beams, resolution: PhotonEnergyResolution, angle: float, sigmas: float) -> Reach:
    """As `_reach`, which asks for the same bounds at many points of a grid. angle: its resolution at 1 GeV, rad."""
    if not bounds.theta:
        return Reach(math.inf, 0.0)  # nothing can

    def true_energy(measured: np.ndarray) -> np.ndarray:
        energy = measured
        for _ in range(50):
            square = resolution.noise**2 + resolution.stochastic**2 * energy**1.5 + resolution.constant**2 * energy**2
            before, energy = energy, np.maximum(measured - sigmas * np.sqrt(square), 0.0)
            if np.array_equal(before, energy):
                break
        return energy

    half = 0.5 * beams.crossing_angle

    def directions(margin: float) -> tuple[np.ndarray, np.ndarray, bool]:
        """Energy in the e+e- frame over that in the laboratory, the cosine there, and whether a beam is within."""
        low = max(0.0, min(low for low, _ in bounds.theta) - margin)
        high = min(math.pi, max(high for _, high in bounds.theta) + margin)
        theta, phi = np.meshgrid(np.linspace(low, high, 361), np.linspace(0.0, math.pi, 91), indexing="ij")
        x, z = np.sin(theta) * np.cos(phi), np.cos(theta)
        minus = beams.electron_energy * (1.0 - x * math.sin(half) - z * math.cos(half))
        plus = beams.positron_energy * (1.0 - x * math.sin(half) + z * math.cos(half))
        along = low <= half or high >= math.pi - half
        return (minus + plus) / beams.sqrt_s, (plus - minus) / (plus + minus), along

    # first without the margin of the angle, for the least energy, which sets that margin
    factor, _, _ = directions(0.0)
    energy = true_energy(np.maximum(bounds.energy, bounds.energy_cm / factor))
    least = float(np.min(energy))
    if least <= 0.0:
        return Reach(0.0, 1.0)
    margin = sigmas * angle / math.sqrt(least)
    factor, cosine, along = directions(margin)
    # the direction that is measured has another factor than the true one: by less than the angle, relative
    energy = true_energy(np.maximum(bounds.energy, bounds.energy_cm / factor)) * (1.0 - margin)
    low, high = bounds.theta_cm
    low, high = math.cos(min(math.pi, high + 2.0 * margin)), math.cos(max(0.0, low - 2.0 * margin))
    inside = (cosine >= low) & (cosine <= high)
    if not np.any(inside):
        return Reach(math.inf, 0.0)
    most = float(np.max(np.abs(cosine[inside])))
    if along and max(-low, high) >= most:
        most = max(-low, high)
    return Reach(float(np.min((energy * factor)[inside])), min(most, 1.0))
