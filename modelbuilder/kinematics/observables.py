"""Values of the observables of measured events."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import KinematicsError
from modelbuilder.kinematics.beams import Beams
from modelbuilder.kinematics.measure import MeasuredEvents
from modelbuilder.spec.observables import FUNCTIONS, Observable
from modelbuilder.spec.topology import known_particle

Floats = npt.NDArray[np.float64]


def evaluate(observable: Observable, events: MeasuredEvents, beams: Beams) -> Floats:
    """Values, shape (n_events, n_entries); NaN where a particle is not found."""
    return evaluate_entries(observable, events, beams).T


def evaluate_entries(observable: Observable, events: MeasuredEvents, beams: Beams) -> Floats:
    """The same, shape (n_entries, n_events), as the kernels have it."""
    if events.topology != observable.topology:
        msg = f"{observable.text}: it was made for {observable.topology.text}, not for {events.topology.text}"
        raise KinematicsError(msg)
    from modelbuilder.kinematics import _observables

    function = FUNCTIONS[observable.function]
    momenta = np.ascontiguousarray(events.momenta.transpose(1, 2, 0))
    n = momenta.shape[2]
    numbers = beam_numbers(beams)
    sums = np.zeros((3, 4, n))
    values = np.empty((len(observable.entries), n))
    points = None
    if function.code.startswith("FLIGHT"):
        points = np.ascontiguousarray(events.points[:, observable.node].T)
    found = events.found
    for row, groups in zip(values, observable.entries, strict=True):
        for total, members in zip(sums, groups, strict=False):
            _observables.add_particles(momenta, np.array(members, dtype=np.int64), total)
            if function.recoil:
                _observables.recoil(numbers, total)
            if function.centre:
                _observables.to_centre(numbers, total)
        if points is not None:
            _observables.flight(points, sums[0], int(function.code.split()[1]), row)
        else:
            number = number_of(observable, groups, events.masses, beams)
            if function.code == "TAU_X":
                sums[2, 0] = 0.5 * beams.sqrt_s
            elif function.code == "COS_HELICITY" and len(groups) == 2:
                sums[2] = np.array(beams.four_momentum)[:, None]
            code = getattr(_observables, function.code)
            _observables.evaluate(code, number, sums[0], sums[1], sums[2], row)
        used = sorted({member for group in groups for member in group})
        if used and not np.all(found[:, used]):
            row[~np.all(found[:, used], axis=1)] = math.nan
    if observable.per_sqrt_s:
        values /= beams.sqrt_s
    return values


def beam_numbers(beams: Beams) -> tuple[float, float, float, float]:
    """The beams for the kernels: energies, and sin and cos of half the crossing angle."""
    half = 0.5 * beams.crossing_angle
    return (float(beams.electron_energy), float(beams.positron_energy), math.sin(half), math.cos(half))


def number_of(
    observable: Observable, groups: tuple[tuple[int, ...], ...], masses: tuple[float, ...], beams: Beams
) -> float:
    """The number that the kernel takes beside the momenta of an entry."""
    code = FUNCTIONS[observable.function].code
    if code in ("MBC", "DELTA_E"):
        return float(beams.sqrt_s)
    if code == "CONSTRAINED_MASS":
        return observable.parent_mass
    return _tau_mass() if code == "TAU_X" else float(sum(masses[member] for member in groups[0]))


def _tau_mass() -> float:
    tau = known_particle("tau-")
    if tau is None:
        msg = "the table of particles has no tau-"
        raise KinematicsError(msg)
    return tau.mass
