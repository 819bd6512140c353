"""Measurement of true momenta: smearing, polar acceptance, thresholds, merging; tables of efficiency.

Particles come component by component, shape (n_particles, 4, n_events) in the order E, px, py, pz, and so do the
results. Random numbers are a function of the key, the number of the event and the place of the particle in its chain:
no result depends on how the events are cut into pieces, nor a particle on which others are measured.

Arguments that are plain tuples of numbers:

    photon     (noise, stochastic, constant, angle, energy_scale, resolution_scale, energy_floor, min_energy,
                min_chord2); min_chord2 = 4 sin^2(angle/2) of the angle below which two photons are one cluster
    track      (slope, constant, angle, polar, momentum_scale, resolution_scale, pt_floor, min_pt, min_momentum);
                polar = 1 if `angle` is that of theta and of phi, 0 if of two directions across the track
    surface    (radius, z_low, z_high) of the calorimeter, cm; radius 0 for none
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import inlined, kernel
from modelbuilder.kinematics._functions import log, sincos_turns
from modelbuilder.kinematics._random import BLOCK, uniforms

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]

PHOTON, TRACK = 0, 1

# Why a particle is not found; MERGED is no reason, it marks a cluster of several photons
OUTSIDE, SOFT, ABSORBED, MISSED, MERGED = 1, 2, 4, 8, 16
LOST = OUTSIDE | SOFT | ABSORBED | MISSED

# Rows of the workspace
NORMAL = 0 * BLOCK  # four standard normals
TRUE = 4 * BLOCK  # E, unit vector for a photon; E, px, py, pz for a track
POINT = 8 * BLOCK
RECO = 11 * BLOCK  # E, px, py, pz
COSINE = 15 * BLOCK
INSIDE = 16 * BLOCK
GOOD = 17 * BLOCK
WORKSPACE = 18 * BLOCK

DRAWS = 2  # draw blocks of a particle
DRAW_POINT = 1024  # of the decay points, after those of all particles


@kernel
def _draw_normals(w: Floats, first: int, draw: int, key0: np.uint64, key1: np.uint64) -> None:
    for pair in range(2):
        row = NORMAL + 2 * pair * BLOCK
        for j in range(BLOCK):
            u, v = uniforms(np.uint64(first + j), np.uint64(draw + pair), key0, key1)
            radius = math.sqrt(-2.0 * log(u))
            sine, cosine = sincos_turns(v)
            w[row + j] = radius * cosine
            w[row + BLOCK + j] = radius * sine


@inlined
def _tilted(x: float, y: float, z: float, d1: float, d2: float) -> tuple[float, float, float]:
    """Unit vector moved by d1 and d2 in the plane tangent to the sphere, and brought back to it."""
    # an orthonormal pair without a singular direction: Duff et al., JCGT 6 (2017) 1
    sign = 1.0 if z >= 0.0 else -1.0
    a = -1.0 / (sign + z)
    b = x * y * a
    length = 1.0 / math.sqrt(1.0 + d1 * d1 + d2 * d2)
    mx = x + d1 * (1.0 + sign * x * x * a) + d2 * b
    my = y + d1 * sign * b + d2 * (sign + y * y * a)
    mz = z - d1 * sign * x - d2 * y
    return mx * length, my * length, mz * length


@kernel
def _look_from_origin(w: Floats, surface: tuple[float, float, float]) -> None:
    """Directions of photons from POINT, as seen from the origin: to where they hit the calorimeter. GOOD: they do."""
    radius, z_low, z_high = surface
    for j in range(BLOCK):
        x, y, z = w[POINT + j], w[POINT + BLOCK + j], w[POINT + 2 * BLOCK + j]
        nx, ny, nz = w[TRUE + BLOCK + j], w[TRUE + 2 * BLOCK + j], w[TRUE + 3 * BLOCK + j]
        a = max(nx * nx + ny * ny, 1e-30)
        b = x * nx + y * ny
        c = x * x + y * y - radius * radius
        good = (c < 0.0) & (z > z_low) & (z < z_high)
        barrel = (math.sqrt(max(b * b - a * c, 0.0)) - b) / a
        safe = nz if abs(nz) > 1e-30 else 1e-30
        endcap = ((z_high if safe > 0.0 else z_low) - z) / safe
        path = min(barrel, endcap)
        hx, hy, hz = x + path * nx, y + path * ny, z + path * nz
        inverse = 1.0 / math.sqrt(hx * hx + hy * hy + hz * hz)
        w[TRUE + BLOCK + j] = hx * inverse if good else nx
        w[TRUE + 2 * BLOCK + j] = hy * inverse if good else ny
        w[TRUE + 3 * BLOCK + j] = hz * inverse if good else nz
        w[GOOD + j] = 1.0 if good else 0.0


@kernel
def _smear_photon(w: Floats, photon: tuple[float, ...]) -> None:
    """sigma(E)/E = noise/E (+) stochastic/E^(1/4) (+) constant; angle/sqrt(E) in each of two transverse directions."""
    noise, stochastic, constant, angle, energy_scale, resolution_scale, energy_floor, _, _ = photon
    for j in range(BLOCK):
        energy = w[TRUE + j]
        root = math.sqrt(energy)
        sigma = math.sqrt(noise * noise + energy * (stochastic * stochastic * root + constant * constant * energy))
        smeared = max(energy_scale * (energy + resolution_scale * sigma * w[NORMAL + j]), energy_floor)
        d1 = angle / root * w[NORMAL + BLOCK + j]
        d2 = angle / root * w[NORMAL + 2 * BLOCK + j]
        x, y, z = _tilted(w[TRUE + BLOCK + j], w[TRUE + 2 * BLOCK + j], w[TRUE + 3 * BLOCK + j], d1, d2)
        w[RECO + j] = smeared
        w[RECO + BLOCK + j] = smeared * x
        w[RECO + 2 * BLOCK + j] = smeared * y
        w[RECO + 3 * BLOCK + j] = smeared * z
        w[COSINE + j] = z


@kernel
def _smear_track(w: Floats, track: tuple[float, ...], mass: float) -> None:
    """sigma(pt)/pt = slope pt (+) constant/beta, and two angles: a track has its curvature and direction.

    mass: of the particle that it is taken for, GeV.
    """
    slope, constant, angle, polar, momentum_scale, resolution_scale, pt_floor, _, _ = track
    for j in range(BLOCK):
        energy = w[TRUE + j]
        x, y, z = w[TRUE + BLOCK + j], w[TRUE + 2 * BLOCK + j], w[TRUE + 3 * BLOCK + j]
        pt2 = x * x + y * y
        p2 = pt2 + z * z
        pt = math.sqrt(pt2)
        inverse = 1.0 / math.sqrt(p2)
        sigma = pt * math.sqrt(slope * slope * pt2 + constant * constant * (energy * inverse) * (energy * inverse))
        smeared = max(momentum_scale * (pt + resolution_scale * sigma * w[NORMAL + j]), pt_floor)
        x *= inverse
        y *= inverse
        z *= inverse
        sine = math.sqrt(max(x * x + y * y, 1e-24))
        d1 = angle * w[NORMAL + BLOCK + j]
        d2 = angle * w[NORMAL + 2 * BLOCK + j] * (sine if polar != 0.0 else 1.0)
        length = 1.0 / math.sqrt(1.0 + d1 * d1 + d2 * d2)
        # d1 along growing theta, d2 along growing phi
        ux, uy = x / sine, y / sine
        x = (x + d1 * z * ux - d2 * uy) * length
        y = (y + d1 * z * uy + d2 * ux) * length
        z = (z - d1 * sine) * length
        # a track along the beam has no curvature; what comes out there is outside of every acceptance
        p = smeared / math.sqrt(max(x * x + y * y, 1e-12))
        w[RECO + j] = math.sqrt(p * p + mass * mass)
        w[RECO + BLOCK + j] = p * x
        w[RECO + 2 * BLOCK + j] = p * y
        w[RECO + 3 * BLOCK + j] = p * z
        w[COSINE + j] = z


@kernel
def _load(w: Floats, momenta: Floats, points: Floats, start: int, n: int) -> None:
    # through views: an index that could be negative would be wrapped, number by number
    if n < BLOCK:
        for j in range(BLOCK):
            w[TRUE + j] = 1.0
            w[TRUE + BLOCK + j] = 1.0
            w[TRUE + 2 * BLOCK + j] = 0.0
            w[TRUE + 3 * BLOCK + j] = 0.0
        for j in range(3 * BLOCK):
            w[POINT + j] = 0.0
    for j in range(BLOCK):
        w[GOOD + j] = 1.0
    for axis in range(4):
        _copy(momenta[axis, start : start + n], w[TRUE + axis * BLOCK : TRUE + axis * BLOCK + n])
    for axis in range(3):
        _copy(points[axis, start : start + n], w[POINT + axis * BLOCK : POINT + axis * BLOCK + n])


@kernel
def _copy(source: Floats, target: Floats) -> None:
    for j in range(len(target)):
        target[j] = source[j]


@kernel
def _to_directions(w: Floats) -> None:
    for j in range(BLOCK):
        x, y, z = w[TRUE + BLOCK + j], w[TRUE + 2 * BLOCK + j], w[TRUE + 3 * BLOCK + j]
        inverse = 1.0 / math.sqrt(x * x + y * y + z * z)
        w[TRUE + BLOCK + j] = x * inverse
        w[TRUE + 2 * BLOCK + j] = y * inverse
        w[TRUE + 3 * BLOCK + j] = z * inverse


@kernel
def _store(
    w: Floats,
    kind: int,
    photon: tuple[float, ...],
    track: tuple[float, ...],
    cos_low: Floats,
    cos_high: Floats,
    start: int,
    n: int,
    measured: Floats,
    flags: Flags,
) -> None:
    for j in range(BLOCK):
        w[INSIDE + j] = 0.0
    for interval in range(len(cos_low)):
        low, high = cos_low[interval], cos_high[interval]
        for j in range(BLOCK):
            inside = (w[COSINE + j] >= low) & (w[COSINE + j] <= high)
            w[INSIDE + j] = 1.0 if inside else w[INSIDE + j]
    _, _, _, _, _, _, _, min_energy, _ = photon
    _, _, _, _, _, _, _, min_pt, min_momentum = track
    good, within, out = w[GOOD : GOOD + n], w[INSIDE : INSIDE + n], flags[start : start + n]
    energy, x = w[RECO : RECO + n], w[RECO + BLOCK : RECO + BLOCK + n]
    y, z = w[RECO + 2 * BLOCK : RECO + 2 * BLOCK + n], w[RECO + 3 * BLOCK : RECO + 3 * BLOCK + n]
    if kind == PHOTON:
        for j in range(n):
            flag = (OUTSIDE if within[j] == 0.0 else 0) | (MISSED if good[j] == 0.0 else 0)
            out[j] = flag | (0 if energy[j] > min_energy else SOFT)
    else:
        for j in range(n):
            pt2 = x[j] * x[j] + y[j] * y[j]
            hard = (pt2 > min_pt * min_pt) & (pt2 + z[j] * z[j] > min_momentum * min_momentum)
            out[j] = (OUTSIDE if within[j] == 0.0 else 0) | (MISSED if good[j] == 0.0 else 0) | (0 if hard else SOFT)
    for axis in range(4):
        _copy(w[RECO + axis * BLOCK : RECO + axis * BLOCK + n], measured[axis, start : start + n])


@kernel
def _merge(kinds: Ints, min_chord2: float, start: int, stop: int, measured: Floats, flags: Flags) -> None:
    """Two found photons too close to each other are one cluster: the harder has the sum, the softer is gone."""
    for one in range(len(kinds)):
        for two in range(one + 1, len(kinds)):
            if kinds[one] != PHOTON or kinds[two] != PHOTON:
                continue
            for j in range(start, stop):
                if (flags[one, j] & LOST) != 0 or (flags[two, j] & LOST) != 0:
                    continue
                e1, e2 = measured[one, 0, j], measured[two, 0, j]
                dx = measured[one, 1, j] / e1 - measured[two, 1, j] / e2
                dy = measured[one, 2, j] / e1 - measured[two, 2, j] / e2
                dz = measured[one, 3, j] / e1 - measured[two, 3, j] / e2
                if dx * dx + dy * dy + dz * dz >= min_chord2:
                    continue
                x = measured[one, 1, j] + measured[two, 1, j]
                y = measured[one, 2, j] + measured[two, 2, j]
                z = measured[one, 3, j] + measured[two, 3, j]
                scale = (e1 + e2) / math.sqrt(x * x + y * y + z * z)
                kept, gone = (one, two) if e1 >= e2 else (two, one)
                measured[kept, 0, j] = e1 + e2
                measured[kept, 1, j] = x * scale
                measured[kept, 2, j] = y * scale
                measured[kept, 3, j] = z * scale
                flags[kept, j] |= MERGED
                flags[gone, j] |= ABSORBED


@kernel
def measure_block(
    w: Floats,
    event: int,
    key0: np.uint64,
    key1: np.uint64,
    places: Ints,
    kinds: Ints,
    masses: Floats,
    photons: Floats,
    tracks: Floats,
    surfaces: Floats,
    photon_cosines: Floats,
    track_cosines: Floats,
    momenta: Floats,
    points: Floats,
    start: int,
    n: int,
    measured: Floats,
    flags: Flags,
    at: int,
) -> None:
    """Measure n events, at most BLOCK, from `start` of the arrays, with several responses; the first has number `event`.

    All responses have the same random numbers, which are drawn once.
    photons, tracks, surfaces: a row for each response, as the tuples above.
    photon_cosines, track_cosines: least and largest cosines of the polar intervals, shape (n_responses, 2, n_intervals).
    measured, flags: shapes (n_responses, n_visible, 4, ...), (n_responses, n_visible, ...), written from `at`.
    """
    for i in range(len(places)):
        place = places[i]
        _draw_normals(w, event, DRAWS * place, key0, key1)
        for k in range(len(photons)):
            p, t = photons[k], tracks[k]
            photon = (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], p[8])
            track = (t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8])
            if k == 0 or kinds[i] == PHOTON:  # of tracks it is left as it was
                _load(w, momenta[place], points[place], start, n)
            if kinds[i] == PHOTON:
                _to_directions(w)
                if surfaces[k, 0] > 0.0:
                    _look_from_origin(w, (surfaces[k, 0], surfaces[k, 1], surfaces[k, 2]))
                _smear_photon(w, photon)
                cosines = photon_cosines[k]
            else:
                _smear_track(w, track, masses[i])
                cosines = track_cosines[k]
            _store(w, kinds[i], photon, track, cosines[0], cosines[1], at, n, measured[k, i], flags[k, i])
    for k in range(len(photons)):
        if photons[k, 8] > 0.0:
            _merge(kinds, photons[k, 8], at, at + n, measured[k], flags[k])


@kernel
def measure_shard(
    first: int,
    last: int,
    first_event: int,
    keys: npt.NDArray[np.uint64],
    places: Ints,
    kinds: Ints,
    masses: Floats,
    photons: Floats,
    tracks: Floats,
    surfaces: Floats,
    photon_cosines: Floats,
    track_cosines: Floats,
    momenta: Floats,
    points: Floats,
    measured: Floats,
    flags: Flags,
) -> None:
    """Measure events first to last - 1 of the arrays; the first of all has the number first_event.

    places, kinds, masses: of the particles to measure: place in the arrays, PHOTON or TRACK, mass hypothesis.
    momenta, points: shapes (n_nodes, 4, n), (n_nodes, 3, n).    The rest as for `measure_block`.
    """
    w = np.zeros(WORKSPACE)
    for start in range(first, last, BLOCK):
        n = min(start + BLOCK, last) - start
        measure_block(
            w, first_event + start, keys[0], keys[1], places, kinds, masses, photons, tracks, surfaces,
            photon_cosines, track_cosines, momenta, points, start, n, measured, flags, start,
        )  # fmt: skip


@kernel
def smear_points(
    points: Floats, first_event: int, place: int, keys: npt.NDArray[np.uint64], width: float, measured: Floats
) -> None:
    """Decay points of one particle with a normal error in x, y and z, cm; shapes (3, n)."""
    w = np.zeros(WORKSPACE)
    n = points.shape[1]
    for start in range(0, n, BLOCK):
        _draw_normals(w, first_event + start, DRAW_POINT + DRAWS * place, keys[0], keys[1])
        for axis in range(3):
            for j in range(min(BLOCK, n - start)):
                measured[axis, start + j] = points[axis, start + j] + width * w[NORMAL + axis * BLOCK + j]


@kernel
def multiply_by_table(x: Floats, y: Floats, x_edges: Floats, y_edges: Floats, values: Floats, factors: Floats) -> None:
    """factors *= values[bin of x, bin of y]; what lies outside belongs to the bin at the edge.

    A bin contains its lower edge.    values: shape (n_x, n_y).
    """
    for j in range(len(x)):
        column = np.searchsorted(x_edges, x[j], side="right") - 1
        row = np.searchsorted(y_edges, y[j], side="right") - 1
        column = min(max(column, 0), len(x_edges) - 2)
        row = min(max(row, 0), len(y_edges) - 2)
        factors[j] *= values[column, row]


@kernel
def multiply_by_line(x: Floats, points: Floats, values: Floats, factors: Floats) -> None:
    """factors *= linear interpolation between points; constant outside."""
    last = len(points) - 1
    for j in range(len(x)):
        i = min(max(np.searchsorted(points, x[j], side="right") - 1, 0), last - 1)
        share = min(max((x[j] - points[i]) / (points[i + 1] - points[i]), 0.0), 1.0)
        factors[j] *= values[i] + share * (values[i + 1] - values[i])
