"""From true momenta to cut flow and histograms in one pass: measure, weigh, cut and fill, a block of events at a time.

A block stays in the cache from the smearing to the histogram, nothing is computed of events that have failed, and
variations of the detector share what they do not change: the random numbers, and those that differ in efficiencies
only the measurement and the cuts too. What is done to an event, and the order of what is added, is as in `measure`,
`cuts` and `observables`, which have the same bits.

`compiled_selection.py` makes the tables:

    detectors    rows of `finding` and `taking`: for each visible particle the row of `efficiencies` to find it, and to
                 find it and take it for what it is taken for; those of one response follow each other
    cuts         shape (n_steps, n_candidates, 5): kind, row of the observable, least number of entries (0 for all),
                 range of the points of a turn-on; bounds (..., 6): low, high, cos and sin of each
    observables  code, recoil, centre, node of a decay point, what of it, range of `entries`; scales: what divides it
    entries      three ranges of `members`; numbers: as for `_observables.evaluate`
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import kernel
from modelbuilder.kinematics._measure import LOST, WORKSPACE, measure_block, multiply_by_line
from modelbuilder.kinematics._observables import (
    COS_HELICITY,
    TAU_X,
    add_some,
    angle_parts,
    evaluate,
    flight,
    recoil,
    to_centre,
)
from modelbuilder.kinematics._random import BLOCK

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.uint8]

# Kinds of a cut
RANGE, ANGLE_RANGE, TURN_ON = 0, 1, 2

# Columns of an observable
CODE, RECOIL, CENTRE, NODE, WHAT, FROM, TO = range(7)
FLIGHT = -1  # the code of what is asked of a decay point

_DOUBT = 1e-12  # of an angle, rad: nearer to a bound the arctangent itself decides


@kernel
def _sums_of(
    o: Ints,
    entry: Ints,
    members: Ints,
    numbers: Floats,
    beams: tuple[float, ...],
    collision: Floats,
    measured: Floats,
    alive: Ints,
    sums: Floats,
) -> None:
    """The sums of momenta of one entry, shape (3, 4, n_alive), of the events whose places are `alive`."""
    for group in range(3):
        start, stop = entry[2 * group], entry[2 * group + 1]
        if start == stop:
            continue
        add_some(measured, members[start:stop], alive, sums[group])
        if o[RECOIL] != 0:
            recoil(beams, sums[group])
        if o[CENTRE] != 0:
            to_centre(beams, sums[group])
    if o[CODE] == TAU_X:
        for j in range(len(alive)):
            sums[2, 0, j] = numbers[1]
    elif o[CODE] == COS_HELICITY and entry[4] == entry[5]:
        for axis in range(4):
            for j in range(len(alive)):
                sums[2, axis, j] = collision[axis]


@kernel
def _values_of(
    o: Ints, number: float, scale: float, points: Floats, start: int, alive: Ints, sums: Floats, values: Floats
) -> None:
    """One entry of an observable from its sums; values: shape (n_alive,)."""
    if o[CODE] == FLIGHT:
        place = np.empty((3, len(alive)))
        for axis in range(3):
            for j in range(len(alive)):
                place[axis, j] = points[o[NODE], axis, start + alive[j]]
        flight(place, sums[0], o[WHAT], values)
    else:
        evaluate(o[CODE], number, sums[0], sums[1], sums[2], values)
    if scale != 1.0:
        for j in range(len(alive)):
            values[j] /= scale


@kernel
def _count_within(low: float, high: float, values: Floats, within: Ints, missing: Ints) -> None:
    for j in range(len(values)):
        within[j] += 1 if (values[j] >= low) & (values[j] <= high) else 0
        missing[j] += 1 if values[j] != values[j] else 0


@kernel
def _count_angles_within(
    code: int, number: float, bounds: Floats, sums: Floats, values: Floats, within: Ints, missing: Ints
) -> None:
    """The same for an angle from 0 to pi, by the signs of sin(angle - low) and sin(high - angle): without arctangents."""
    n = len(values)
    sines, cosines = np.empty(n), np.empty(n)
    angle_parts(code, sums[0], sums[1], sines, cosines)
    cos_low, sin_low, cos_high, sin_high = bounds[2], bounds[3], bounds[4], bounds[5]
    doubts = 0
    for j in range(n):
        above = sines[j] * cos_low - cosines[j] * sin_low
        below = cosines[j] * sin_high - sines[j] * cos_high
        least = min(above, below)
        doubt = _DOUBT * (sines[j] + abs(cosines[j]))
        values[j] = 1.0 if least > doubt else 0.0
        # a NaN is in doubt
        decided = (above > doubt) | (above < -doubt)
        decided &= (below > doubt) | (below < -doubt)
        values[j] = values[j] if decided else math.nan
        doubts += 0 if decided else 1
        within[j] += 1 if values[j] == 1.0 else 0
    if doubts > 0:
        exact = np.empty(n)
        evaluate(code, number, sums[0], sums[1], sums[2], exact)
        for j in range(n):
            if values[j] != values[j]:
                within[j] += 1 if (exact[j] >= bounds[0]) & (exact[j] <= bounds[1]) else 0
                missing[j] += 1 if exact[j] != exact[j] else 0


@kernel
def _find(flags: Flags, weights: Floats, start: int, n: int, seen: Ints, n_seen: int, alive: Ints, found: Flags) -> int:
    """Places of the events of weight in which all of `seen` are found; how many they are."""
    for j in range(n):
        found[j] = 0
    for i in range(n_seen):
        row = flags[seen[i]]
        for j in range(n):
            found[j] |= row[j] & LOST
    count = 0
    for j in range(n):
        alive[count] = j
        count += 1 if (found[j] == 0) & (weights[start + j] != 0.0) else 0
    return count


@kernel
def _weigh(
    flags: Flags,
    weights: Floats,
    efficiencies: Floats,
    start: int,
    n: int,
    seen: Ints,
    n_seen: int,
    vetoed: Ints,
    n_vetoed: int,
    taking: Ints,
    finding: Ints,
    left: Floats,
) -> None:
    """Weights with the seen particles found and the vetoed ones not."""
    given = weights[start : start + n]
    for j in range(n):
        left[j] = given[j]
    for i in range(n_seen):
        row, found = efficiencies[taking[seen[i]]][start : start + n], flags[seen[i]]
        for j in range(n):
            left[j] *= row[j] if (found[j] & LOST) == 0 else 0.0
    for i in range(n_vetoed):
        row, found = efficiencies[finding[vetoed[i]]][start : start + n], flags[vetoed[i]]
        for j in range(n):
            left[j] *= 1.0 - row[j] if (found[j] & LOST) == 0 else 1.0


@kernel
def _add_step(left: Floats, true: Floats, start: int, n: int, work: Floats, lanes: Floats) -> None:
    """Add what is left to a line of the cut flow. left: shape (n_candidates, BLOCK); lanes: (3, BLOCK), to be added."""
    for j in range(n):
        work[j] = left[0, j]
    for c in range(1, len(left)):
        row = left[c]
        for j in range(n):
            work[j] += row[j]
    before = true[start : start + n]
    sums, squares, products = lanes[0], lanes[1], lanes[2]
    for j in range(n):
        sums[j] += work[j]
        squares[j] += work[j] * work[j]
        products[j] += work[j] * before[j]


@kernel
def _bins_of(values: Floats, edges: Floats, cells: Ints, inverse: float, bins: Ints) -> None:
    """Number of the edges that are not above a value, by a table of those in cells of equal width; -1 for NaN.

    cells: edges that lie in cells below the first, the second, ...: all in a lower cell are below the value.
    """
    n_cells, last = len(cells) - 1, edges[-1]
    for j in range(len(values)):
        value = values[j]
        if math.isnan(value):
            bins[j] = -1
        elif value < edges[0]:
            bins[j] = 0
        elif value >= last:
            bins[j] = len(edges)
        else:
            cell = min(int((value - edges[0]) * inverse), n_cells - 1)
            low, high = cells[cell], cells[cell + 1]
            while low < high:
                middle = (low + high) >> 1
                if edges[middle] <= value:
                    low = middle + 1
                else:
                    high = middle
            bins[j] = low


@kernel
def _flatten(bins: Ints, second: Ints, n_first: int, n_second: int) -> None:
    """Places in bins of two axes, the second fastest: 0 below the first axis, the last outside of either, -1 for NaN."""
    for k in range(len(bins)):
        one, two = bins[k], second[k]
        if one < 0 or two < 0:
            bins[k] = -1
        elif one > n_first or ((one > 0) & ((two == 0) | (two > n_second))):
            bins[k] = n_first * n_second + 1
        elif one > 0:
            bins[k] = (one - 1) * n_second + two


@kernel
def _fill_one(bins: Ints, alive: Ints, weights: Floats, part: Floats, touched: Ints) -> None:
    """One entry for each event that is left."""
    for k in range(len(alive)):
        place, weight = bins[k], weights[alive[k]]
        if place >= 0 and weight != 0.0:
            part[place, 0] += weight
            part[place, 1] += weight * weight
            touched[0] = min(touched[0], place)
            touched[1] = max(touched[1], place)


@kernel
def _fill_several(bins: Ints, candidate: Ints, weights: Floats, n: int, part: Floats, touched: Ints) -> None:
    """Entries of an event in one bin add the square of the sum of their weights to its variance.

    bins: shape (n_entries, BLOCK), -1 for none.    candidate: of each entry.
    """
    for j in range(n):
        for i in range(len(candidate)):
            place, weight = bins[i, j], weights[candidate[i], j]
            if place < 0 or weight == 0.0:
                continue
            others = 0.0
            for k in range(i):
                others += weights[candidate[k], j] if bins[k, j] == place else 0.0
            part[place, 0] += weight
            part[place, 1] += weight * (weight + 2.0 * others)
            touched[0] = min(touched[0], place)
            touched[1] = max(touched[1], place)


@kernel
def end_part(parts: Floats, touched: Ints, totals: Floats) -> None:
    """Add the parts to the totals, shape (n_detectors, n_bins + 2, 2), and begin new ones.

    touched: the least and the largest bin that was filled.
    """
    for d in range(len(parts)):
        for place in range(touched[d, 0], touched[d, 1] + 1):
            for i in range(2):
                totals[d, place, i] += parts[d, place, i]
                parts[d, place, i] = 0.0
        touched[d, 0], touched[d, 1] = parts.shape[1], -1


@kernel
def _filter(
    kind: int,
    cut: Ints,
    bounds: Floats,
    observables: Ints,
    scales: Floats,
    entries: Ints,
    numbers: Floats,
    members: Ints,
    turns: Floats,
    beams: tuple[float, ...],
    collision: Floats,
    measured: Floats,
    points: Floats,
    start: int,
    alive: Ints,
    room: Floats,
    left: Floats,
    kept: Ints,
) -> int:
    """Apply one cut to the events that are alive; left: weights by detector, shape (n_detectors, BLOCK).

    kept: places of those that pass.    The result is their number.
    """
    n = len(alive)
    o = observables[cut[1]]
    sums = room[: 12 * n].reshape((3, 4, n))
    values = np.empty(n)
    within, missing = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    for e in range(o[FROM], o[TO]):
        _sums_of(o, entries[e], members, numbers[e], beams, collision, measured, alive, sums)
        if kind == ANGLE_RANGE:
            _count_angles_within(o[CODE], numbers[e, 0], bounds, sums, values, within, missing)
        else:
            _values_of(o, numbers[e, 0], scales[cut[1]], points, start, alive, sums, values)
            if kind == RANGE:
                _count_within(bounds[0], bounds[1], values, within, missing)
    factors = np.ones(n)
    if kind == TURN_ON:
        for k in range(n):
            within[k] = 1 if values[k] == values[k] else 0
            values[k] = values[k] if within[k] == 1 else 0.0
        multiply_by_line(values, turns[0, cut[3] : cut[4]], turns[1, cut[3] : cut[4]], factors)
    n_entries = o[TO] - o[FROM]
    count = 0
    for k in range(n):
        passed = within[k] > 0
        if cut[2] > 0:
            passed = within[k] >= cut[2]
        elif kind != TURN_ON:
            passed &= within[k] + missing[k] == n_entries
        j = alive[k]
        if passed:
            kept[count] = j
            count += 1
            if kind == TURN_ON:
                for d in range(len(left)):
                    left[d, j] *= factors[k]
        else:
            for d in range(len(left)):
                left[d, j] = 0.0
    return count


@kernel
def select_chunk(
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
    detectors_of: Ints,
    finding: Ints,
    taking: Ints,
    seen: Ints,
    n_seen: Ints,
    vetoed: Ints,
    n_vetoed: Ints,
    cuts: Ints,
    bounds: Floats,
    observables: Ints,
    scales: Floats,
    entries: Ints,
    numbers: Floats,
    members: Ints,
    turns: Floats,
    filled: Ints,
    candidate: Ints,
    beams: tuple[float, ...],
    collision: Floats,
    edges: Floats,
    cells: Ints,
    inverse: float,
    second: Ints,
    second_edges: Floats,
    second_cells: Ints,
    second_inverse: float,
    momenta: Floats,
    points: Floats,
    measured_points: Floats,
    true_weights: Floats,
    weights: Floats,
    efficiencies: Floats,
    ends: Ints,
    nominal: int,
    with_vertices: bool,
    flow: Floats,
    parts: Floats,
    touched: Ints,
    totals: Floats,
    kept_weights: Floats,
    kept_entries: Floats,
    kept_at: int,
) -> None:
    """Events of a chunk, the first with number first_event, a multiple of BLOCK.

    detectors_of: the first detector of each response, and their number.    seen, vetoed: visible particles of each
    candidate, as many as n_seen, n_vetoed.    filled: row of `observables` for each candidate.    candidate: of each
    entry that is filled.    edges, cells, inverse: as for `_bins_of`.    weights: with the vertices.
    second: row of the second observable for each candidate, which has one entry, or empty; its edges, likewise.
    efficiencies: shape (n_rows, n_events).    ends: 1 for blocks after which a part of the sum ends.
    nominal: the detector of the cut flow, or -1.    flow: lanes of the sums, shape (n_steps, 3, BLOCK).
    parts, touched, totals: as for `end_part`.    kept_weights, kept_entries: if not empty, the weights of the nominal
    detector after all cuts, and the entries, NaN for none; written from kept_at. With a second observable an entry is
    kept as the middle of its flat bin, counted from 0.
    """
    n_visible, n_candidates, n_steps = len(places), len(seen), len(cuts)
    n_responses, n_entries, n_events = len(photons), len(candidate), len(weights)
    w = np.zeros(WORKSPACE)
    measured = np.zeros((n_responses, n_visible, 4, BLOCK))
    flags = np.zeros((n_responses, n_visible, BLOCK), dtype=np.uint8)
    left = np.zeros((n_candidates, len(finding), BLOCK))
    of_one = np.zeros((n_candidates, BLOCK))
    alive = np.zeros((n_candidates, BLOCK + 1), dtype=np.int64)
    n_alive = np.zeros(n_candidates, dtype=np.int64)
    found = np.zeros(BLOCK, dtype=np.uint8)
    work = np.zeros(BLOCK)
    room = np.zeros(12 * BLOCK)
    bins = np.zeros((n_entries, BLOCK), dtype=np.int64)
    some, other = np.zeros(BLOCK, dtype=np.int64), np.zeros(BLOCK, dtype=np.int64)
    for block in range(len(ends)):
        start = block * BLOCK
        n = min(BLOCK, n_events - start)
        measure_block(
            w, first_event + start, keys[0], keys[1], places, kinds, masses, photons, tracks, surfaces,
            photon_cosines, track_cosines, momenta, points, start, n, measured, flags, 0,
        )  # fmt: skip
        for response in range(n_responses):
            begin, end = detectors_of[response], detectors_of[response + 1]
            is_nominal = begin <= nominal < end
            for c in range(n_candidates):
                n_alive[c] = _find(flags[response], weights, start, n, seen[c], n_seen[c], alive[c], found)
                for d in range(begin, end):
                    _weigh(
                        flags[response], weights, efficiencies, start, n, seen[c], n_seen[c], vetoed[c], n_vetoed[c],
                        taking[d], finding[d], left[c, d],
                    )  # fmt: skip
            line = 0
            if is_nominal:
                for j in range(n):
                    of_one[0, j] = true_weights[start + j]
                _add_step(of_one[:1], true_weights, start, n, work, flow[0])
                if with_vertices:
                    for j in range(n):
                        of_one[0, j] = weights[start + j]
                    _add_step(of_one[:1], true_weights, start, n, work, flow[1])
                    line = 1
            for step in range(-1, n_steps):
                for c in range(n_candidates):
                    if step < 0 or n_alive[c] == 0:
                        continue
                    n_alive[c] = _filter(
                        cuts[step, c, 0], cuts[step, c], bounds[step, c], observables, scales, entries, numbers, members,
                        turns, beams, collision, measured[response], measured_points, start, alive[c, : n_alive[c]],
                        room, left[c, begin:end], alive[c],
                    )  # fmt: skip
                if is_nominal:
                    line += 1
                    for c in range(n_candidates):
                        for j in range(n):
                            of_one[c, j] = left[c, nominal, j]
                    _add_step(of_one, true_weights, start, n, work, flow[line])
            several = n_entries > 1
            if several:
                for i in range(n_entries):
                    for j in range(n):
                        bins[i, j] = -1
            i = 0
            for c in range(n_candidates):
                m = n_alive[c]
                those = alive[c, :m]
                o = observables[filled[c]]
                sums = room[: 12 * m].reshape((3, 4, m))
                for e in range(o[FROM], o[TO]):
                    if m > 0:
                        values = work[:m]
                        _sums_of(o, entries[e], members, numbers[e], beams, collision, measured[response], those, sums)
                        _values_of(o, numbers[e, 0], scales[filled[c]], measured_points, start, those, sums, values)
                        _bins_of(values, edges, cells, inverse, some[:m])
                        if len(second) > 0:
                            p = observables[second[c]]
                            row = p[FROM]
                            _sums_of(
                                p,
                                entries[row],
                                members,
                                numbers[row],
                                beams,
                                collision,
                                measured[response],
                                those,
                                sums,
                            )
                            _values_of(
                                p, numbers[row, 0], scales[second[c]], measured_points, start, those, sums, values
                            )
                            _bins_of(values, second_edges, second_cells, second_inverse, other[:m])
                            _flatten(some[:m], other[:m], len(edges) - 1, len(second_edges) - 1)
                            for k in range(m):
                                values[k] = some[k] - 0.5 if some[k] >= 0 else math.nan
                        if several:
                            for k in range(m):
                                bins[i, those[k]] = some[k]
                        if is_nominal and kept_entries.shape[1] > 0:
                            for k in range(m):
                                kept_entries[i, kept_at + start + those[k]] = values[k]
                    i += 1
            for d in range(begin, end):
                if several:
                    _fill_several(bins, candidate, left[:, d], n, parts[d], touched[d])
                else:
                    _fill_one(some, alive[0, : n_alive[0]], left[0, d], parts[d], touched[d])
            if is_nominal and kept_weights.shape[1] > 0:
                for c in range(n_candidates):
                    for j in range(n):
                        kept_weights[c, kept_at + start + j] = left[c, nominal, j]
        if ends[block] != 0:
            end_part(parts, touched, totals)
