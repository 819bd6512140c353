"""HistFactory specifications as the flat arrays that the compiled likelihood works on, one or many at a time.

What specifications of one structure share, the layout, is made once and kept: who is a global, a local, or folded in,
and where each number goes. Then the numbers of all of them are filled in together. Each model comes out with the same
bits, whatever others it is made with: every operation is one number at a time, or a sum in a fixed order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelbuilder.errors import UnusableNumberError, WorkspaceError
from modelbuilder.inference.likelihood import Parameter
from modelbuilder.inference.structure import (
    BINWISE,
    FREE,
    NORMAL,
    ONE,
    POISSON,
    Block,
    Key,
    Structure,
    read,
    structure_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Index = NDArray[np.int64]
    Flags = NDArray[np.bool_]

NormSysCode = Literal["code1", "code4"]
HistoSysCode = Literal["code0", "code2", "code4p"]
NORMSYS_CODES: dict[str, int] = {"code1": 1, "code4": 4}
HISTOSYS_CODES: dict[str, int] = {"code0": 0, "code2": 2, "code4p": 4}

_PLAIN = 9  # as in _interpolation.py, which imports numba
_N_COEFFICIENTS = 8

_BENT = 0.15  # Poisson standard deviations of the even part of a variation, above which a parameter is bent
_REACH = 3.0  # sigma at which a variation empties a bin ...
_FEW = 10.0  # ... of fewer events than this
_ALWAYS_BENT = 1.0
_MAX_BENT = 8

_N_KEPT = 64  # layouts
_MOST_NUMBERS = 1_000_000  # in one array, while models are filled in together

# The coefficients of code 4 at alpha0 = 1: those of odd powers from the odd part of the value, the even part of the slope
# and the odd part of the curvature at +-1 sigma; those of even powers from the opposite parts. Rows: powers 1, 3, 5 and 2, 4, 6
_CODE4 = np.array(
    [
        [[15 / 16, -7 / 16, 1 / 16], [-5 / 8, 5 / 8, -1 / 8], [3 / 16, -3 / 16, 1 / 16]],
        [[3 / 2, -9 / 16, 1 / 16], [-3 / 2, 7 / 8, -1 / 8], [1 / 2, -5 / 16, 1 / 16]],
    ]
)


@dataclass(frozen=True, kw_only=True)
class Constraints:
    """Which auxiliary measurement, counted after the bins, constrains which parameter; shape (n_constraints,) each.

    width: standard deviation.    factor: the auxiliary measurement counts `factor * parameter` events.
    """

    normal_parameter: Index
    normal_data: Index
    normal_width: Array
    poisson_parameter: Index
    poisson_data: Index
    poisson_factor: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class FlatModel:
    """A packed model.

    integers, floats: what `_model.unpack` takes apart; not to be written to.
    values: of the columns of its structure.    initial, lower, upper, fixed: by parameter.
    may_have_several_minima: variations bend, or free parameters multiply each other.
    is_likely_to: they do, or variations bend strongly or empty a bin.
    """

    layout: Layout
    integers: Index
    floats: Array
    values: Array
    initial: Array
    lower: Array
    upper: Array
    fixed: Flags
    may_have_several_minima: bool
    is_likely_to: bool

    @property
    def names(self) -> tuple[str, ...]:
        """Of all parameters, in pyhf's order."""
        return self.layout.structure.names

    @property
    def poi_index(self) -> int:
        return self.layout.structure.poi_index

    @property
    def bin_names(self) -> tuple[str, ...]:
        return self.layout.structure.bin_names

    @property
    def globals_(self) -> Index:
        """The parameter of each global. Those that are neither global nor local are `folded`."""
        return self.layout.globals_

    @property
    def locals_(self) -> Index:
        """The parameter of each local."""
        return self.layout.locals_

    @property
    def folded(self) -> Index:
        """The parameters that are bin-wise and fixed, and multiplied in."""
        return self.layout.folded

    @property
    def global_data(self) -> Index:
        """The auxiliary measurement of each global, counted after the bins; -1 for none."""
        return self.layout.global_data

    @property
    def local_data(self) -> Index:
        """The auxiliary measurement of each local."""
        return self.layout.local_data

    @property
    def auxdata(self) -> Array:
        """What was measured of the parameters."""
        found: Array = self.values[self.layout.auxdata]
        return found

    @cached_property
    def constraints(self) -> Constraints:
        layout = self.layout
        normal, poisson = (np.flatnonzero(layout.kind == kind) for kind in (NORMAL, POISSON))
        return Constraints(
            normal_parameter=normal,
            normal_data=layout.data_of[normal],
            normal_width=self.values[layout.width[normal]],
            poisson_parameter=poisson,
            poisson_data=layout.data_of[poisson],
            poisson_factor=self.values[layout.width[poisson]],
        )

    @cached_property
    def parameters(self) -> tuple[Parameter, ...]:
        constraints, auxdata = self.constraints, self.auxdata
        centre: dict[int, float] = {}
        width: dict[int, float] = {}
        for parameter, datum, sigma in zip(
            constraints.normal_parameter.tolist(),
            constraints.normal_data.tolist(),
            constraints.normal_width.tolist(),
            strict=True,
        ):
            centre[parameter], width[parameter] = float(auxdata[datum]), sigma
        for parameter, datum, factor in zip(
            constraints.poisson_parameter.tolist(),
            constraints.poisson_data.tolist(),
            constraints.poisson_factor.tolist(),
            strict=True,
        ):
            centre[parameter], width[parameter] = float(auxdata[datum]) / factor, 1.0 / math.sqrt(factor)
        return tuple(
            Parameter(
                name=name,
                init=init,
                lower=lower,
                upper=upper,
                fixed=fixed,
                centre=centre.get(index),
                width=width.get(index),
            )
            for index, (name, init, lower, upper, fixed) in enumerate(
                zip(
                    self.names,
                    self.initial.tolist(),
                    self.lower.tolist(),
                    self.upper.tolist(),
                    self.fixed.tolist(),
                    strict=True,
                )
            )
        )

    def with_all_global(self) -> FlatModel:
        """The same model with every parameter a global, in pyhf's order."""
        layout = self.layout
        other = _layout(layout.structure, self.fixed.tobytes(), layout.codes, False)
        (found,) = other.filled(self.values[None], self.fixed)
        assert isinstance(found, FlatModel)
        return found


def flatten(
    spec: Mapping[str, Any],
    poi_name: str,
    *,
    normsys_code: NormSysCode = "code4",
    histosys_code: HistoSysCode = "code4p",
) -> FlatModel:
    """Flatten `spec`, a dict with `channels` and `parameters` as `pyhf.Model` takes it, checked for its schema.

    Raises WorkspaceError for what pyhf does not take.
    """
    key, numbers = read(spec)
    (found,) = flatten_all([key], [numbers], [poi_name], normsys_code=normsys_code, histosys_code=histosys_code)
    if isinstance(found, WorkspaceError):
        raise found
    return found


def flatten_all(
    keys: Sequence[Key],
    numbers: Sequence[Sequence[float]],
    poi_names: Sequence[str],
    *,
    normsys_code: NormSysCode = "code4",
    histosys_code: HistoSysCode = "code4p",
) -> list[FlatModel | WorkspaceError]:
    """`flatten` for what `structure.read` has made of each specification, or what is wrong with it.

    Those that differ in their numbers only are filled in together.
    """
    codes = (NORMSYS_CODES[normsys_code], HISTOSYS_CODES[histosys_code])
    found: list[FlatModel | WorkspaceError] = [WorkspaceError()] * len(keys)
    together: dict[int, tuple[Structure, list[int]]] = {}
    for place, (key, poi_name) in enumerate(zip(keys, poi_names, strict=True)):
        try:
            structure = structure_of(key, poi_name)
        except WorkspaceError as error:
            found[place] = error
            continue
        together.setdefault(id(structure), (structure, []))[1].append(place)
    for structure, places in together.values():
        step = max(_MOST_NUMBERS // (structure.n_numbers + 1), 1)
        for first in range(0, len(places), step):
            some = places[first : first + step]
            models = _models(structure, np.array([numbers[place] for place in some], dtype=float), codes)
            for place, model in zip(some, models, strict=True):
                found[place] = model
    return found


def _models(structure: Structure, numbers: Array, codes: tuple[int, int]) -> list[FlatModel | WorkspaceError]:
    """One for each row."""
    values, fixed, errors = structure.values(numbers.reshape(-1, structure.n_numbers))
    found: list[FlatModel | WorkspaceError | None] = list(errors)
    together: dict[bytes, list[int]] = {}
    for row, error in enumerate(errors):
        if error is None:
            together.setdefault(fixed[row].tobytes(), []).append(row)
    for flags, rows in together.items():
        layout = _layout(structure, flags, codes, True)
        step = max(_MOST_NUMBERS // layout.size, 1)
        for first in range(0, len(rows), step):
            some = rows[first : first + step]
            for row, model in zip(some, layout.filled(values[some], fixed[some[0]]), strict=True):
                found[row] = model
    return [model for model in found if model is not None]


def pinned(flat: FlatModel, values: Mapping[int, float]) -> FlatModel:
    """The model with parameters fixed at these values, by index; they stay the globals and locals that they are."""
    from modelbuilder.inference._model import FIXED, INITIAL, LOCAL_LOWER, LOCAL_UPPER

    integers, floats, initial, fixed = flat.integers.copy(), flat.floats.copy(), flat.initial.copy(), flat.fixed.copy()
    for index, value in values.items():
        initial[index], fixed[index] = value, True
        for place in np.flatnonzero(flat.globals_ == index):
            integers[integers[FIXED] + place] = 1
            floats[integers[INITIAL] + place] = value
        for place in np.flatnonzero(flat.locals_ == index):
            floats[integers[LOCAL_LOWER] + place] = floats[integers[LOCAL_UPPER] + place] = value
    return replace(flat, integers=integers, floats=floats, initial=initial, fixed=fixed)


@lru_cache(maxsize=_N_KEPT)
def _layout(structure: Structure, fixed: bytes, codes: tuple[int, int], eliminate: bool) -> Layout:
    return Layout(structure, np.frombuffer(fixed, dtype=bool), codes, eliminate)


class Layout:
    """Who is a global, a local, or folded in, and the arrays of `_model.Model` but for their numbers.

    codes: of normsys and histosys.
    eliminate: make locals of what can be one; otherwise every parameter is a global, in pyhf's order.
    kind: of the constraint of each parameter.    data_of: its auxiliary measurement, or -1.
    auxdata: columns of the auxiliary data.    width: column of sigma, of the factor, or of 1, of each parameter.
    size: numbers that a model takes while it is filled in.
    """

    def __init__(self, structure: Structure, fixed: Flags, codes: tuple[int, int], eliminate: bool) -> None:
        self.structure = structure
        self.codes = codes
        self._fixed = fixed
        self._blocks: list[Block] = [block for blocks in structure.channels for block in blocks]
        self._offsets = np.cumsum([0, *(block.n for block in self._blocks)])
        self._set_parameters()
        self._role(eliminate)
        self._pack()

    def _set_parameters(self) -> None:
        kinds: list[int] = []
        data_of: list[int] = []
        auxdata: list[int] = []
        columns: dict[str, list[int]] = {"initial": [], "lower": [], "upper": [], "width": []}
        for made in self.structure.sets.values():
            assert made.inits is not None
            assert made.bounds is not None
            kinds += [made.kind] * made.n
            columns["initial"] += made.inits
            columns["lower"] += made.bounds[::2]
            columns["upper"] += made.bounds[1::2]
            widths = made.factors if made.kind == POISSON else made.sigmas
            columns["width"] += widths if widths is not None else (ONE,) * made.n
            if made.kind == FREE:
                data_of += [-1] * made.n
            else:
                assert made.auxdata is not None
                data_of += range(len(auxdata), len(auxdata) + made.n)
                auxdata += made.auxdata
        self.kind = np.array(kinds, dtype=np.int64)
        self.data_of = np.array(data_of, dtype=np.int64)
        self.auxdata = np.array(auxdata, dtype=np.int64)
        self.initial, self.lower, self.upper, self.width = (
            np.array(found, dtype=np.int64) for found in columns.values()
        )

    def _cells(self, name: str, kind: str) -> list[list[tuple[int, int]]]:
        """Blocks and bins (of the channel) on which each parameter of a bin-wise name acts."""
        cells: list[list[tuple[int, int]]] = [[] for _ in range(self.structure.sets[name].n)]
        number = {id(block): index for index, block in enumerate(self._blocks)}
        begin: dict[int, int] = {}
        position = 0
        for block, _ in self.structure.blocks_of[kind, name]:
            if kind == "shapefactor":
                start = 0
            else:  # channel after channel
                if block.first_bin not in begin:
                    begin[block.first_bin] = position
                    position += block.n
                start = begin[block.first_bin]
            for index in range(block.n):
                cells[start + index].append((number[id(block)], index))
        return cells

    def _role(self, eliminate: bool) -> None:
        structure, poi = self.structure, self.structure.poi_index
        n_bins = sum(structure.n_bins)
        self._local_of = np.full(self._offsets[-1], -1, dtype=np.int64)  # a parameter, for now
        self._fold: list[tuple[int, int]] = []  # (cell, parameter)
        self._spots: list[list[tuple[int, int]]] = [[] for _ in self._blocks]  # (bin, parameter)
        locals_: list[tuple[int, int]] = []  # (bin, parameter)
        folded: list[int] = []
        taken = np.zeros(n_bins, dtype=bool)  # by a free parameter, of which a bin takes one
        for kind in ("shapefactor", "shapesys", "staterror"):
            for name in [name for found, name in structure.blocks_of if found == kind]:
                for offset, cells in enumerate(self._cells(name, kind)):
                    index = structure.sets[name].start + offset
                    here = [int(self._offsets[j]) + b for j, b in cells]
                    if eliminate and self._fixed[index] and index != poi:
                        folded.append(index)
                        self._fold += [(cell, index) for cell in here]
                        continue
                    bins = {self._blocks[j].first_bin + b for j, b in cells}
                    free = self.kind[index] == FREE
                    if (
                        eliminate
                        and index != poi
                        and len(bins) == 1
                        and not (free and taken[min(bins)])
                        and all(self._local_of[cell] < 0 for cell in here)
                    ):
                        self._local_of[here] = index
                        locals_.append((min(bins), index))
                        taken[min(bins)] |= free
                    else:
                        for j, b in cells:
                            self._spots[j].append((b, index))
        locals_.sort()
        n = len(self.kind)
        self.locals_ = np.array([index for _, index in locals_], dtype=np.int64)
        self.folded = np.array(sorted(folded), dtype=np.int64)
        self._bin_local = np.searchsorted([b for b, _ in locals_], np.arange(n_bins + 1)).astype(np.int64)
        gone = np.zeros(n, dtype=bool)
        gone[self.locals_] = True
        gone[self.folded] = True
        self.globals_ = np.flatnonzero(~gone).astype(np.int64)
        self._global_of = np.full(n, -1, dtype=np.int64)
        self._global_of[self.globals_] = np.arange(len(self.globals_))
        self.global_data = self.data_of[self.globals_]
        self.local_data = self.data_of[self.locals_]
        number_of = np.full(n + 1, -1, dtype=np.int64)
        number_of[self.locals_] = np.arange(len(self.locals_))
        self._local_of = number_of[self._local_of]  # -1 picks the last entry, which is -1

    def _pack(self) -> None:
        """The integers, but for which parameters are bent; and the columns that the floats are taken from."""
        structure = self.structure
        n = len(self.globals_)
        factors: list[list[tuple[int, int]]] = []
        shapes: list[list[int]] = []
        ratios: list[tuple[int, int]] = []
        self._ratio_names: list[str] = []
        high: list[int] = []
        low: list[int] = []
        shape_cell: list[int] = []
        shape_offset: list[int] = []
        kinked = np.zeros(n, dtype=np.int64)
        for block, first in zip(self._blocks, self._offsets.tolist(), strict=False):
            mine: list[tuple[int, int]] = []
            mine_shapes: list[int] = []
            for modifier in block.modifiers:
                kind, at = modifier.kind, modifier.at
                if kind in BINWISE:
                    continue
                p = int(self._global_of[structure.sets[modifier.name].start])
                if kind == "histosys":
                    mine_shapes.append(p)
                    shape_offset.append(len(high))
                    high += range(at, at + block.n)
                    low += range(at + block.n, at + 2 * block.n)
                    shape_cell += range(first, first + block.n)
                    kinked[p] |= self.codes[1] == 0
                else:
                    is_rate = kind == "normsys"
                    mine.append((p, self.codes[0] if is_rate else _PLAIN))
                    ratios.append((at, at + 1) if is_rate else (ONE, ONE))
                    self._ratio_names.append(f"{block.name}: normsys {modifier.name!r}")
                    kinked[p] |= is_rate and self.codes[0] == 1
            factors.append(mine)
            shapes.append(mine_shapes)
        self._nominal = np.array([column for block in self._blocks for column in block.columns], dtype=np.int64)
        self._ratios = np.ascontiguousarray(np.array(ratios, dtype=np.int64).reshape(-1, 2).T)
        self._plain = np.concatenate(
            [
                *(columns[self.locals_] for columns in (self.width, self.lower, self.upper)),
                *(columns[self.globals_] for columns in (self.width, self.lower, self.upper, self.initial)),
            ]
        )
        self._high, self._low = np.array(high, dtype=np.int64), np.array(low, dtype=np.int64)
        self._shape_cell = np.array(shape_cell, dtype=np.int64)
        spots = [sorted(entries) for entries in self._spots]
        per_channel = [len(blocks) for blocks in structure.channels]
        factor_parameter = np.array([p for entries in factors for p, _ in entries], dtype=np.int64)
        shape_parameter = np.array([p for entries in shapes for p in entries], dtype=np.int64)
        spot_parameter = np.array([self._global_of[p] for entries in spots for _, p in entries], dtype=np.int64)
        starts = [_starts([len(entries) for entries in lists]) for lists in (factors, shapes, spots)]
        acting = (factor_parameter, shape_parameter, spot_parameter)
        active, slots = _active(_starts(per_channel), starts, acting)
        self._has_products = self._multiplies(factors, spots)
        self._set_variations(starts, acting)
        sizes = [
            n,
            self._global_of[structure.poi_index],
            len(structure.bin_names),
            len(self.locals_),
            len(self._blocks),
            len(per_channel),
            self.codes[1],
            0,  # bent ones
            0,  # of which always
            self._has_products,
        ]
        integers = [
            sizes,
            _starts(per_channel),
            _starts(structure.n_bins),
            _starts([len(some) for some in active]),
            np.concatenate(active),
            self._offsets,
            self._local_of,
            self._bin_local,
            self.kind[self.locals_],
            starts[0],
            factor_parameter,
            [code for entries in factors for _, code in entries],
            slots[0],
            starts[1],
            shape_parameter,
            shape_offset,
            slots[1],
            starts[2],
            spot_parameter,
            [b for entries in spots for b, _ in entries],
            slots[2],
            self.kind[self.globals_],
            self._fixed[self.globals_],
            kinked,
            [],  # bent ones
        ]
        n_floats = [
            len(self._nominal),
            _N_COEFFICIENTS * len(ratios),
            len(high),
            len(low),
            *[len(self.locals_)] * 3,
            *[n] * 4,
            0,  # of bent ones
        ]
        parts = [np.asarray(part, dtype=np.int64) for part in integers]
        self._n_header = len(parts) + 1 + len(n_floats) + 1
        self._end_of_integers = len(parts)  # in the header
        header = [self._n_header + _starts([len(part) for part in parts]), _starts(n_floats)]
        self._integers = np.concatenate([*header, *parts])
        self._integers.setflags(write=False)
        self.size = max(sum(n_floats), len(self._varied), n * len(structure.bin_names), 1)

    def _multiplies(self, factors: list[list[tuple[int, int]]], spots: list[list[tuple[int, int]]]) -> bool:
        """Whether two free parameters other than the POI multiply each other."""
        global_kind = self.kind[self.globals_]
        poi = int(self._global_of[self.structure.poi_index])
        for j, mine in enumerate(factors):
            local = self._local_of[self._offsets[j] : self._offsets[j + 1]]
            binwise = self.kind[self.locals_[local[local >= 0]]].tolist()
            binwise += [self.kind[p] for _, p in spots[j]]
            norms = sum(p != poi and global_kind[p] == FREE for p, _ in mine)
            if norms + (FREE in binwise) > 1:
                return True
        return False

    def _set_variations(self, starts: list[Index], acting: tuple[Index, Index, Index]) -> None:
        """Which cell each normsys and histosys varies, and by which global and bin that is to be summed."""
        lengths = np.array([block.n for block in self._blocks])
        self._bin_of_cell = np.concatenate([np.arange(block.n) + block.first_bin for block in self._blocks])
        n_bins = len(self.structure.bin_names)
        places = []
        for acts, start in zip(acting[:2], starts[:2], strict=True):
            owner = np.repeat(np.arange(len(self._blocks)), np.diff(start))  # the block of each modifier
            size = lengths[owner]
            at = np.repeat(np.arange(len(owner)), size)  # the modifier of each of its cells
            within = np.arange(len(at)) - np.repeat(np.cumsum(size) - size, size)
            cell = self._offsets[owner[at]] + within
            places.append((at, cell, acts[at] * n_bins + self._bin_of_cell[cell]))
        (self._rate_of, self._rate_cell, rate_place), (_, _, shape_place) = places
        self._varied = np.concatenate([rate_place, shape_place])

    # ------------------------------------------------------------------------------------------------- the numbers

    def filled(self, values: Array, fixed: Flags) -> list[FlatModel | WorkspaceError]:
        """The models with these values, shape (n_models, n_columns), or what is wrong with them; fixed is that of all."""
        errors = self._errors(values)
        n_models = len(values)
        nominal = values[:, self._nominal]
        up = values[:, self._high] - nominal[:, self._shape_cell]
        down = nominal[:, self._shape_cell] - values[:, self._low]
        if self._fold:
            scale = np.ones_like(nominal)
            for cell, parameter in self._fold:
                scale[:, cell] *= values[:, self.initial[parameter]]
            nominal *= scale
            up *= scale[:, self._shape_cell]
            down *= scale[:, self._shape_cell]
        ratios = np.ascontiguousarray(values[:, self._ratios].transpose(1, 0, 2))  # hi and lo
        with np.errstate(all="ignore"):  # those that are wrong have been seen
            coefficients = normsys_coefficients(ratios[0], ratios[1])
        bends, strength = self._bends(nominal, ratios, up, down)
        order = np.argsort(-strength, axis=1, kind="stable")
        n_bent = np.minimum(np.count_nonzero(strength, axis=1), _MAX_BENT).tolist()
        always = np.count_nonzero(strength >= _ALWAYS_BENT, axis=1).tolist()
        floats = np.hstack([nominal, coefficients.reshape(n_models, -1), up, down, values[:, self._plain]])
        initial, lower, upper = (values[:, columns] for columns in (self.initial, self.lower, self.upper))
        found: list[FlatModel | WorkspaceError] = []
        for row, error in enumerate(errors):
            if error is not None:
                found.append(error)
                continue
            integers, mine = self._integers, floats[row]
            if n_bent[row]:
                bent = order[row, : n_bent[row]]
                integers = self._with_bent(bent, min(always[row], n_bent[row]))
                mine = np.concatenate([mine, bends[row, bent].ravel()])
            found.append(
                FlatModel(
                    layout=self,
                    integers=integers,
                    floats=mine,
                    values=values[row],
                    initial=initial[row],
                    lower=lower[row],
                    upper=upper[row],
                    fixed=fixed,
                    may_have_several_minima=n_bent[row] > 0 or self._has_products,
                    is_likely_to=always[row] > 0 or self._has_products,
                )
            )
        return found

    def _errors(self, values: Array) -> list[WorkspaceError | None]:
        errors: list[WorkspaceError | None] = [None] * len(values)
        ratios = values[:, self._ratios].transpose(1, 0, 2)
        wrong = ~(ratios > 0.0).all(axis=0)
        for row, which in zip(*np.nonzero(wrong), strict=True):
            high, low = ratios[:, row, which]
            errors[row] = UnusableNumberError(
                f"workspace: {self._ratio_names[which]}: found hi {high}, lo {low}; factors are above 0"
            )
        poisson = np.flatnonzero(self.kind == POISSON)
        factors = values[:, self.width[poisson]]
        for row, which in zip(*np.nonzero(~(factors > 0.0)), strict=True):
            name = self.structure.names[poisson[which]]
            errors[row] = WorkspaceError(
                f"workspace: parameters[{name}].factors: found {factors[row, which]}; a factor is above 0"
            )
        return errors

    def _with_bent(self, bent: Index, always: int) -> Index:
        """The integers of a model with these bent globals, the worst first."""
        integers: Index = np.concatenate([self._integers, bent])
        integers[self._n_header + 7] = len(bent)
        integers[self._n_header + 8] = always
        integers[self._end_of_integers] += len(bent)
        integers[self._n_header - 1] += len(bent) * len(self.structure.bin_names)
        return integers

    def _bends(self, nominal: Array, ratios: Array, up: Array, down: Array) -> tuple[Array, Array]:
        """In which nuisance parameters -2 ln L may have several minima.

        The constraint bends -2 ln L by 2 everywhere. Against it works the even part of a variation,
        (hi + lo)/2 - nominal, in units of the Poisson uncertainty; and a variation that empties a bin.
        Returns that part by global and bin, shape (n_models, n_globals, n_bins); and how bent each global is, 0 where it
        is not. What is bent by `_ALWAYS_BENT`, or empties a bin, has to be started on the other side whatever the data are.
        """
        n_models, n, n_bins = len(nominal), len(self.globals_), len(self.structure.bin_names)
        total = _sums(self._bin_of_cell, nominal, n_bins)
        cells = nominal[:, self._rate_cell]
        high = np.hstack([(ratios[0][:, self._rate_of] - 1.0) * cells, up])
        low = np.hstack([(1.0 - ratios[1][:, self._rate_of]) * cells, down])
        bends = _sums(self._varied, 0.5 * (high - low), n * n_bins).reshape(n_models, n, n_bins)
        drops = _sums(self._varied, np.minimum(high, -low), n * n_bins).reshape(n_models, n, n_bins)
        weights = 1.0 / (np.maximum(total, 0.0) + 1.0)
        strength = np.sqrt(np.sum(bends**2 * weights[:, None, :], axis=2))
        strength[strength < _BENT] = 0.0
        total = total[:, None, :]
        empties = ((total + _REACH * drops < 0.0) & (total < _FEW) & (drops < 0.0)).any(axis=2)
        return bends, np.where(empties, np.maximum(strength, _ALWAYS_BENT), strength)


def _sums(place: Index, weights: Array, size: int) -> Array:
    """Sums of the weights by place, row by row; shape (n_rows, size)."""
    n_rows = len(weights)
    where = (np.arange(n_rows)[:, None] * size + place).ravel()
    sums: Array = np.bincount(where, weights=weights.ravel(), minlength=n_rows * size).astype(float, copy=False)
    return sums.reshape(n_rows, size)


def normsys_coefficients(high: Array, low: Array) -> Array:
    """Per factor: ln hi, ln lo, and the coefficients of code 4; shape (n_models, n_factors, 8)."""
    up, down = np.log(high), np.log(low)
    ends = ((high - 1.0, low - 1.0), (up * high, -down * low), (up * up * high, down * down * low))
    odd = (ends[0][0] - ends[0][1], ends[1][0] + ends[1][1], ends[2][0] - ends[2][1])
    even = (ends[0][0] + ends[0][1], ends[1][0] - ends[1][1], ends[2][0] + ends[2][1])
    found = np.empty((*high.shape, _N_COEFFICIENTS))
    found[..., 0], found[..., 1] = up, down
    for first, rows, (value, slope, curvature) in ((2, _CODE4[0], odd), (3, _CODE4[1], even)):
        found[..., first::2] = (
            rows[:, 0] * value[..., None] + rows[:, 1] * slope[..., None] + rows[:, 2] * curvature[..., None]
        )
    return found


def _active(
    channel_block: Index, starts: list[Index], acting: tuple[Index, Index, Index]
) -> tuple[list[Index], list[Index]]:
    """The globals that act in each channel, sorted; and the places among them of all that is in `acting`."""
    active: list[Index] = []
    slots = [np.zeros(len(parameters), dtype=np.int64) for parameters in acting]
    for first, last in zip(channel_block[:-1].tolist(), channel_block[1:].tolist(), strict=True):
        parts = [slice(start[first], start[last]) for start in starts]
        here = np.unique(np.concatenate([found[part] for found, part in zip(acting, parts, strict=True)]))
        active.append(here)
        for slot, found, part in zip(slots, acting, parts, strict=True):
            slot[part] = np.searchsorted(here, found[part])
    return active, slots


def _starts(lengths: Sequence[int]) -> Index:
    return np.cumsum([0, *lengths], dtype=np.int64)
