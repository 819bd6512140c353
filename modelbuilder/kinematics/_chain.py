"""The chain engine: one compiled interpreter for all topologies.

`chain.py` turns a topology into a table of operations, which `make_block` runs on one block of events after the other:

    collide -> masses, productions, decays, flights in the order of the table -> laboratory -> decay points -> store

A row of the table of integers is (code, parent, n, child 1 ... child 6, law, axis, grandparent, draw block, mode,
first and end of its numbers in `values`); a row of the table of numbers is what the operation says.
"""

import math

import numpy as np
import numpy.typing as npt

from modelbuilder.kinematics._compile import kernel
from modelbuilder.kinematics._decays import (
    AXIS,
    FACTOR,
    FERMIONS_ALONG,
    INNER,
    LENGTH,
    MASS,
    MINUS,
    NODES,
    ONE,
    PARENT,
    PER_NODE,
    PLUS,
    POINT,
    THREE,
    TWO,
    TWO_PHOTONS,
    P,
    decay_flat,
    decay_to_axis,
    draw_cosine,
    draw_fermion_cosine,
    draw_inner_masses,
    draw_length,
    draw_leptonic_pair,
    draw_mass,
    interpolate,
    produce_three,
    require_energy,
    set_beam_axis,
    set_dark_higgs_axis,
    set_helicity_axis,
    set_radiated_axis,
    weigh_decay,
    weigh_factor,
    weigh_mass,
    weigh_pair,
    weigh_resonance,
    weigh_spins,
    weigh_table,
    weigh_vector_spin,
)
from modelbuilder.kinematics._frames import SCALE_MINUS, SCALE_PLUS, WEIGHT, collide, to_laboratory
from modelbuilder.kinematics._random import BLOCK

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Operations, and what their numbers are
MASS_OP = 0  # mass, width, low, span
RESONANCE = 1  # mass, width, norm
TWO_BODY = 2  # parameter of the law, norm; unused and least energy of the photons, or range of the table
N_BODY = 3  # unused, norm, range of the table; its axis is the power of M that divides the weight
THREE_BODY_PRODUCTION = 4  # least energy and largest |cos| of the photons, share of `generate_ll_gamma`
DECAY_WEIGHT = 5  # parameter, norm
FLIGHT = 6
SPINS = 7  # of tau- and tau+, the first children, seen by the third and fourth: kind and mass of the rest, for both

LEPTONIC_DECAY = 8  # mass of the lepton, norm; neutrinos without mass
VECTOR_SPIN = 9  # of V in l- l+ V, the first children, as the fourth sees it: constant and slope of the weight
MASS_WEIGHT = 10  # of the first child, from a table: unused, unused, its range

# Columns of the table of integers
CODE, OF, N, CHILD, LAW, AXIS_OF, GRANDPARENT, DRAW, MODE, FROM, TO, N_COLUMNS = (
    0,
    1,
    2,
    3,
    9,
    10,
    11,
    12,
    13,
    14,
    15,
    16,
)
N_NUMBERS = 4

BEAM_AXIS, HELICITY_AXIS, RADIATED_AXIS, DARK_HIGGS_AXIS = 1, 2, 3, 4

# Weights of a two- or n-body operation
UNWEIGHTED, CROSS_SECTION, CONSTANT, TABULATED = 0, 1, 2, 3


@kernel
def _copy(w: Floats, source: int, target: int, n_rows: int) -> None:
    # through views: an index that could be negative would be wrapped, number by number
    n = n_rows * BLOCK
    a = w[source : source + n]
    b = w[target : target + n]
    for j in range(n):
        b[j] = a[j]


@kernel
def _node(place: int) -> int:
    return NODES + place * PER_NODE


@kernel
def _begin(w: Floats, beams: tuple[float, ...], collision: bool) -> None:
    """Node 0: the e+e- that collide, or a particle at rest. Events without energy for anything get weight 0."""
    e_minus, e_plus, _, _, sqrt_s, _, _, _ = beams
    for j in range(BLOCK):
        scale = w[SCALE_MINUS + j] * w[SCALE_PLUS + j]
        live = scale > 1e-9
        tilt = math.sqrt(w[SCALE_MINUS + j] / w[SCALE_PLUS + j]) if live else 1.0
        w[WEIGHT + j] = w[WEIGHT + j] if live else 0.0
        w[MINUS + j] = e_minus / sqrt_s * tilt
        w[PLUS + j] = e_plus / sqrt_s / tilt
        w[FACTOR + j] = sqrt_s * math.sqrt(scale) if live else sqrt_s
    if collision:
        _copy(w, FACTOR, NODES + MASS, 1)
    _copy(w, NODES + MASS, NODES + P, 1)


@kernel
def _run_two_body(
    w: Floats, op: Ints, number: Floats, values: Floats, first: int, key0: np.uint64, key1: np.uint64
) -> None:
    one, two = _node(op[CHILD]), _node(op[CHILD + 1])
    _copy(w, _node(op[OF]), PARENT, 5)
    _copy(w, one + MASS, ONE + 4 * BLOCK, 1)
    _copy(w, two + MASS, TWO + 4 * BLOCK, 1)
    for j in range(BLOCK):
        w[FACTOR + j] = 1.0 / w[PARENT + 4 * BLOCK + j]
    if op[LAW] == 0:
        decay_flat(w, first, op[DRAW], key0, key1)
    else:
        if op[AXIS_OF] == BEAM_AXIS:
            set_beam_axis(w)
        elif op[AXIS_OF] == RADIATED_AXIS:
            set_radiated_axis(w, first, op[DRAW], key0, key1)
        elif op[AXIS_OF] == DARK_HIGGS_AXIS:
            set_dark_higgs_axis(w, first, op[DRAW], key0, key1)
        else:
            _copy(w, _node(op[GRANDPARENT]), THREE, 4)
            set_helicity_axis(w)
        if op[LAW] >= FERMIONS_ALONG:
            draw_fermion_cosine(w, op[LAW], first, op[DRAW] + 1, key0, key1)
        else:
            draw_cosine(w, op[LAW], number[0], first, op[DRAW] + 1, key0, key1)
        decay_to_axis(w, first, op[DRAW], key0, key1)
    _copy(w, ONE, one, 4)
    _copy(w, TWO, two, 4)
    if op[MODE] == CROSS_SECTION:
        weigh_pair(w, op[N], number[1])
        if number[3] > 0.0:
            require_energy(w, number[3], op[LAW] == TWO_PHOTONS)
    else:
        _weigh(w, op, number, values, 1)


@kernel
def _weigh(w: Floats, op: Ints, number: Floats, values: Floats, power: int) -> None:
    """The weight of the phase space; for a pair or n bodies, see `chain.py`."""
    if op[MODE] == CONSTANT:
        weigh_factor(w, number[1], op[AXIS_OF] if op[CODE] == N_BODY else 0)
    elif op[MODE] == TABULATED:
        interpolate(w, values[op[FROM] : op[TO]], number[2], number[3])
        weigh_table(w, number[2], power)
    else:
        for j in range(BLOCK):  # only below threshold
            w[WEIGHT + j] = w[WEIGHT + j] if w[FACTOR + j] > 0.0 else 0.0


@kernel
def _run_n_body(
    w: Floats, op: Ints, number: Floats, values: Floats, first: int, key0: np.uint64, key1: np.uint64
) -> None:
    """One body after the other leaves, the last first; what remains is the parent of the next step."""
    n = op[N]
    _copy(w, _node(op[OF]), PARENT, 5)
    _copy(w, _node(op[CHILD]) + MASS, INNER + 6 * BLOCK, 1)
    for k in range(1, n):
        _copy(w, _node(op[CHILD + k]) + MASS, TWO + 4 * BLOCK, 1)
        _copy(w, INNER + (5 + k) * BLOCK, ONE + 4 * BLOCK, 1)
        for j in range(BLOCK):
            w[ONE + 4 * BLOCK + j] += w[TWO + 4 * BLOCK + j]
        _copy(w, ONE + 4 * BLOCK, INNER + (6 + k) * BLOCK, 1)
    draw = op[DRAW]
    draw_inner_masses(w, n, first, draw, key0, key1)
    draw += 1 if n < 5 else 2
    for k in range(n - 1, 0, -1):
        child = _node(op[CHILD + k])
        _copy(w, child + MASS, TWO + 4 * BLOCK, 1)
        _copy(w, INNER + k * BLOCK if k > 1 else _node(op[CHILD]) + MASS, ONE + 4 * BLOCK, 1)
        decay_flat(w, first, draw, key0, key1)
        draw += 1
        _copy(w, TWO, child, 4)
        _copy(w, ONE, PARENT, 5)
    _copy(w, ONE, _node(op[CHILD]), 4)
    _copy(w, _node(op[OF]), PARENT, 5)
    _weigh(w, op, number, values, 3 * n - 5)


@kernel
def _run_leptonic(w: Floats, op: Ints, number: Floats, first: int, key0: np.uint64, key1: np.uint64) -> None:
    """L to the pair of its neutrino and the lepton, and the other neutrino; then the pair."""
    neutrino, lepton, other = _node(op[CHILD]), _node(op[CHILD + 1]), _node(op[CHILD + 2])
    _copy(w, _node(op[OF]), PARENT, 5)
    draw_leptonic_pair(w, number[0], number[1], first, op[DRAW], key0, key1)
    _copy(w, other + MASS, TWO + 4 * BLOCK, 1)
    decay_flat(w, first, op[DRAW] + 2, key0, key1)
    _copy(w, TWO, other, 4)
    _copy(w, ONE, PARENT, 5)
    _copy(w, neutrino + MASS, ONE + 4 * BLOCK, 1)
    _copy(w, lepton + MASS, TWO + 4 * BLOCK, 1)
    decay_flat(w, first, op[DRAW] + 3, key0, key1)
    _copy(w, ONE, neutrino, 4)
    _copy(w, TWO, lepton, 4)


@kernel
def _run_three(w: Floats, op: Ints, number: Floats, first: int, key0: np.uint64, key1: np.uint64) -> None:
    one, two, three = _node(op[CHILD]), _node(op[CHILD + 1]), _node(op[CHILD + 2])
    _copy(w, _node(op[OF]), PARENT, 5)
    _copy(w, one, ONE, 5)
    _copy(w, two, TWO, 5)
    _copy(w, three, THREE, 5)
    if op[CODE] == THREE_BODY_PRODUCTION:
        produce_three(w, op[LAW], number[0], number[1], number[2], first, op[DRAW], key0, key1)
        _copy(w, ONE, one, 4)
        _copy(w, TWO, two, 4)
        _copy(w, THREE, three, 4)
    else:
        weigh_decay(w, op[LAW], number[0], number[1])


@kernel
def _run(w: Floats, ops: Ints, numbers: Floats, values: Floats, first: int, key0: np.uint64, key1: np.uint64) -> None:
    for i in range(len(ops)):
        op, number = ops[i], numbers[i]
        code = op[CODE]
        if code == MASS_OP:
            draw_mass(w, number[0], number[1], number[2], number[3], first, op[DRAW], key0, key1)
            _copy(w, ONE + 4 * BLOCK, _node(op[OF]) + MASS, 1)
        elif code == RESONANCE:
            _copy(w, _node(op[OF]), PARENT, 5)
            _copy(w, PARENT, _node(op[CHILD]), 5)
            weigh_resonance(w, number[0], number[1], number[2])
        elif code == TWO_BODY:
            _run_two_body(w, op, number, values, first, key0, key1)
        elif code == N_BODY:
            _run_n_body(w, op, number, values, first, key0, key1)
        elif code == FLIGHT:
            draw_length(w, values[op[FROM] : op[TO]], first, op[DRAW], key0, key1)
            _copy(w, FACTOR, _node(op[OF]) + LENGTH, 1)
        elif code == LEPTONIC_DECAY:
            _run_leptonic(w, op, number, first, key0, key1)
        elif code == SPINS:
            _copy(w, _node(op[CHILD]), ONE, 5)
            _copy(w, _node(op[CHILD + 1]), TWO, 5)
            _copy(w, _node(op[CHILD + 2]), THREE, 5)
            _copy(w, _node(op[CHILD + 3]), INNER, 5)
            weigh_spins(w, int(number[0]), number[1], int(number[2]), number[3])
        elif code == VECTOR_SPIN:
            _copy(w, _node(op[CHILD]), ONE, 5)
            _copy(w, _node(op[CHILD + 1]), TWO, 5)
            _copy(w, _node(op[CHILD + 2]), THREE, 5)
            _copy(w, _node(op[CHILD + 3]), INNER, 5)
            weigh_vector_spin(w, number[0], number[1])
        elif code == MASS_WEIGHT:
            _copy(w, _node(op[CHILD]) + MASS, PARENT + 4 * BLOCK, 1)
            interpolate(w, values[op[FROM] : op[TO]], number[2], number[3])
            weigh_mass(w)
        else:
            _run_three(w, op, number, first, key0, key1)


@kernel
def _boost(w: Floats, n_nodes: int, beams: tuple[float, ...]) -> None:
    """Momenta of all nodes to the laboratory."""
    _, _, sin_half, cos_half, _, _, _, _ = beams
    for place in range(n_nodes):
        row = _node(place)
        _copy(w, row, ONE, 4)
        for j in range(BLOCK):
            e, x, y, z = to_laboratory(
                w[ONE + j],
                w[ONE + BLOCK + j],
                w[ONE + 2 * BLOCK + j],
                w[ONE + 3 * BLOCK + j],
                w[MINUS + j],
                w[PLUS + j],
                sin_half,
                cos_half,
            )
            w[TWO + j] = e
            w[TWO + BLOCK + j] = x
            w[TWO + 2 * BLOCK + j] = y
            w[TWO + 3 * BLOCK + j] = z
        _copy(w, TWO, row, 4)


@kernel
def _fly(w: Floats, parents: Ints, flies: Ints) -> None:
    """Points where the nodes decay, or begin if they do not, in the laboratory, cm; flies: 2 if it has a length of
    its own, 1 if it may begin elsewhere than at the origin, else 0."""
    for place in range(len(parents)):
        if flies[place] == 0:
            continue
        row = _node(place)
        start = _node(parents[place]) + POINT
        if flies[place] == 1:
            _copy(w, start, row + POINT, 3)
            continue
        _copy(w, row, ONE, 5)
        _copy(w, row + LENGTH, FACTOR, 1)
        _copy(w, start, AXIS, 3)
        for j in range(BLOCK):
            time = w[FACTOR + j] / w[ONE + 4 * BLOCK + j]
            w[AXIS + j] += time * w[ONE + BLOCK + j]
            w[AXIS + BLOCK + j] += time * w[ONE + 2 * BLOCK + j]
            w[AXIS + 2 * BLOCK + j] += time * w[ONE + 3 * BLOCK + j]
        _copy(w, AXIS, row + POINT, 3)


@kernel
def _keep(w: Floats, row: int, kept: Floats, start: int, stop: int) -> None:
    """Copy a row out."""
    a = w[row : row + stop - start]
    b = kept[start:stop]
    for j in range(stop - start):
        b[j] = a[j]


@kernel
def chain_shard(
    first: int,
    last: int,
    origin: int,
    keys: npt.NDArray[np.uint64],
    beams: tuple[float, ...],
    collision: bool,
    ops: Ints,
    numbers: Floats,
    values: Floats,
    masses: Floats,
    parents: Ints,
    flies: Ints,
    sums: Floats,
    momenta: Floats,
    points: Floats,
    lengths: Floats,
    weights: Floats,
) -> None:
    """Simulate events first to last - 1.

    origin: the event that is kept at place 0; `first` is a multiple of BLOCK above it.
    masses, parents, flies: by node; masses of those without an operation that sets it.
    sums: shape (2,): sum of weights and of squared weights, added in a fixed order.
    momenta, points, lengths, weights: shapes (n_nodes, 4, n), (n_nodes, 3, n), (n_nodes, n), (n,); n = 0 keeps nothing.
    """
    n_nodes = len(masses)
    w = np.zeros(NODES + n_nodes * PER_NODE)
    total = np.zeros(2 * BLOCK)
    for place in range(n_nodes):
        w[_node(place) + MASS : _node(place) + MASS + BLOCK] = masses[place]
    keep = len(weights) > 0
    for start in range(first, last, BLOCK):
        stop = min(start + BLOCK, last)
        collide(w, start, stop, keys[0], keys[1], beams)
        for j in range(3 * BLOCK):
            w[NODES + BLOCK + j] = 0.0
        _begin(w, beams, collision)
        _run(w, ops, numbers, values, start, keys[0], keys[1])
        _boost(w, n_nodes, beams)
        _fly(w, parents, flies)
        for j in range(BLOCK):
            total[j] += w[WEIGHT + j]
            total[BLOCK + j] += w[WEIGHT + j] * w[WEIGHT + j]
        if keep:
            begin, end = start - origin, stop - origin
            _keep(w, WEIGHT, weights, begin, end)
            for place in range(n_nodes):
                row = _node(place)
                for axis in range(4):
                    _keep(w, row + axis * BLOCK, momenta[place, axis], begin, end)
                if flies[place] != 0:
                    for axis in range(3):
                        _keep(w, row + POINT + axis * BLOCK, points[place, axis], begin, end)
                if flies[place] == 2:
                    _keep(w, row + LENGTH, lengths[place], begin, end)
    for j in range(BLOCK):
        sums[0] += total[j]
        sums[1] += total[BLOCK + j]
