"""A HistFactory specification as the flat arrays that the compiled likelihood works on.

Read from the JSON itself, with pyhf's rules: its order of parameters and data, its defaults, its merging of staterror,
its bins that a modifier cannot act on. What pyhf rejects is a `WorkspaceError` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from modelbuilder.errors import UnusableNumberError, WorkspaceError
from modelbuilder.inference.likelihood import Parameter

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Index = NDArray[np.int64]

NormSysCode = Literal["code1", "code4"]
HistoSysCode = Literal["code0", "code2", "code4p"]
NORMSYS_CODES: dict[str, int] = {"code1": 1, "code4": 4}
HISTOSYS_CODES: dict[str, int] = {"code0": 0, "code2": 2, "code4p": 4}

_PLAIN = 9  # as in _interpolation.py and _binwise.py, which import numba
_FREE, _NORMAL, _POISSON = 0, 1, 2

_BENT = 0.15  # Poisson standard deviations of the even part of a variation, above which a parameter is bent
_REACH = 3.0  # sigma at which a variation empties a bin ...
_FEW = 10.0  # ... of fewer events than this
_ALWAYS_BENT = 1.0
_MAX_BENT = 8

# pyhf.modifiers.histfactory_set: the order in which parameters are created
_TYPES = ("histosys", "lumi", "normfactor", "normsys", "shapefactor", "shapesys", "staterror")
_BINWISE = frozenset({"shapefactor", "shapesys", "staterror"})

# The coefficients of code 4 at alpha0 = 1 from value, slope and curvature at +-1 sigma; rows a_1 to a_6
_CODE4 = np.array(
    [
        [15 / 16, -15 / 16, -7 / 16, -7 / 16, 1 / 16, -1 / 16],
        [3 / 2, 3 / 2, -9 / 16, 9 / 16, 1 / 16, 1 / 16],
        [-5 / 8, 5 / 8, 5 / 8, 5 / 8, -1 / 8, 1 / 8],
        [-3 / 2, -3 / 2, 7 / 8, -7 / 8, -1 / 8, -1 / 8],
        [3 / 16, -3 / 16, -3 / 16, -3 / 16, 1 / 16, -1 / 16],
        [1 / 2, 1 / 2, -5 / 16, 5 / 16, 1 / 16, 1 / 16],
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


@dataclass(frozen=True, kw_only=True)
class FlatModel:
    """A packed model, and how its globals, locals and data are numbered by pyhf.

    integers, floats: what `_model.unpack` takes apart; not to be written to.
    globals_, locals_: parameter of each global and each local; `folded` are in neither: bin-wise, fixed, multiplied in.
    global_data, local_data: auxiliary measurement of each, counted after the bins; -1 for none.
    may_have_several_minima: variations bend, or free parameters multiply each other.
    is_likely_to: they do, or variations bend strongly or empty a bin.
    """

    integers: Index
    floats: Array
    parameters: tuple[Parameter, ...]
    poi_index: int
    bin_names: tuple[str, ...]
    auxdata: Array
    constraints: Constraints
    globals_: Index
    locals_: Index
    folded: Index
    global_data: Index
    local_data: Index
    may_have_several_minima: bool
    is_likely_to: bool


@dataclass(kw_only=True)
class _ParameterSet:
    """What one name stands for; the fields are those of a pyhf paramset."""

    kind: int
    n: int
    scalar: bool
    inits: Sequence[float] | None
    bounds: Sequence[Sequence[float]] | None
    fixed: bool | Sequence[bool] = False
    auxdata: Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    factors: Sequence[float] | None = None
    start: int = 0


@dataclass(kw_only=True)
class _Block:
    """A sample in a channel. first_bin: of the channel, among all bins."""

    name: str
    first_bin: int
    data: list[float]
    modifiers: list[Mapping[str, Any]]


@dataclass(kw_only=True)
class _Description:
    channels: list[list[_Block]]
    n_bins: list[int]
    bin_names: list[str]
    sets: dict[str, _ParameterSet]
    blocks_of: dict[tuple[str, str], list[tuple[_Block, Mapping[str, Any]]]] = field(default_factory=dict)


def flatten(
    spec: Mapping[str, Any],
    poi_name: str,
    *,
    normsys_code: NormSysCode = "code4",
    histosys_code: HistoSysCode = "code4p",
    eliminate: bool = True,
) -> FlatModel:
    """Flatten `spec`, a dict with `channels` and `parameters` as `pyhf.Model` takes it, checked for its schema.

    eliminate: make locals of what can be one; otherwise every parameter is a global, in pyhf's order.
    """
    described = _describe(spec)
    parameters, constraints, auxdata = _parameters(described)
    if poi_name not in described.sets or described.sets[poi_name].n != 1:
        msg = f"workspace: the parameter of interest {poi_name!r} has to be one parameter of the model"
        raise WorkspaceError(msg)
    packer = _Packer(
        described,
        parameters,
        constraints,
        poi_index=described.sets[poi_name].start,
        codes=(NORMSYS_CODES[normsys_code], HISTOSYS_CODES[histosys_code]),
        eliminate=eliminate,
    )
    return packer.packed(auxdata)


def pinned(flat: FlatModel, values: Mapping[int, float]) -> FlatModel:
    """The model with parameters fixed at these values, by index; they stay the globals and locals that they are."""
    from modelbuilder.inference._model import FIXED, INITIAL, LOCAL_LOWER, LOCAL_UPPER

    integers, floats, parameters = flat.integers.copy(), flat.floats.copy(), list(flat.parameters)
    for index, value in values.items():
        parameters[index] = replace(parameters[index], init=value, fixed=True)
        for place in np.flatnonzero(flat.globals_ == index):
            integers[integers[FIXED] + place] = 1
            floats[integers[INITIAL] + place] = value
        for place in np.flatnonzero(flat.locals_ == index):
            floats[integers[LOCAL_LOWER] + place] = floats[integers[LOCAL_UPPER] + place] = value
    return replace(flat, integers=integers, floats=floats, parameters=tuple(parameters))


# ------------------------------------------------------------------------------------------- what the names stand for


def _describe(spec: Mapping[str, Any]) -> _Description:
    channels, n_bins, bin_names = [], [], []
    first_bin = 0
    blocks_of: dict[tuple[str, str], list[tuple[_Block, Mapping[str, Any]]]] = {}
    for channel in sorted(spec["channels"], key=_name):
        n = len(channel["samples"][0]["data"])
        blocks = []
        for sample in sorted(channel["samples"], key=_name):
            modifiers = sorted(sample["modifiers"], key=lambda m: (m["name"], m["type"]))
            block = _Block(
                name=f"{channel['name']}/{sample['name']}",
                first_bin=first_bin,
                data=sample["data"],
                modifiers=modifiers,
            )
            _check_lengths(block, n)
            blocks.append(block)
            for modifier in modifiers:
                if modifier["type"] not in _TYPES:
                    msg = f"workspace: {block.name}: unknown modifier {modifier['type']!r}; known: {', '.join(_TYPES)}"
                    raise WorkspaceError(msg)
                blocks_of.setdefault((modifier["type"], modifier["name"]), []).append((block, modifier))
        channels.append(blocks)
        n_bins.append(n)
        bin_names += [f"{channel['name']}[{index}]" for index in range(n)]
        first_bin += n
    described = _Description(channels=channels, n_bins=n_bins, bin_names=bin_names, sets={}, blocks_of=blocks_of)
    order = [key for kind in _TYPES for key in blocks_of if key[0] == kind and kind != "staterror"]
    order += sorted(key for key in blocks_of if key[0] == "staterror")
    for kind, name in order:
        made = _MAKERS[kind](name, blocks_of[kind, name])
        if name not in described.sets:
            described.sets[name] = made
        elif described.sets[name] != made:
            msg = f"workspace: the name {name!r} is used by modifiers that need different parameters; use unique names"
            raise WorkspaceError(msg)
    if not described.sets:
        msg = "workspace: the model has no parameters"
        raise WorkspaceError(msg)
    _apply_overrides(described, spec.get("parameters", []))
    start = 0
    for made in described.sets.values():
        made.start = start
        start += made.n
    return described


def _name(item: Mapping[str, Any]) -> str:
    return str(item["name"])


def _check_lengths(block: _Block, n_bins: int) -> None:
    lengths = {"data": len(block.data)}
    for modifier in block.modifiers:
        data = modifier["data"]
        if modifier["type"] == "histosys":
            lengths |= {f"{modifier['name']} {key}": len(data[key]) for key in ("hi_data", "lo_data")}
        elif modifier["type"] in {"shapesys", "staterror"}:
            lengths[modifier["name"]] = len(data)
    for what, length in lengths.items():
        if length != n_bins:
            msg = f"workspace: {block.name}: {what}: found {length} values; the channel has {n_bins} bins"
            raise WorkspaceError(msg)


_Uses = list[tuple[_Block, Mapping[str, Any]]]


def _alpha(name: str, uses: _Uses) -> _ParameterSet:
    return _ParameterSet(kind=_NORMAL, n=1, scalar=True, inits=(0.0,), bounds=((-5.0, 5.0),), auxdata=(0.0,))


def _lumi(name: str, uses: _Uses) -> _ParameterSet:
    return _ParameterSet(kind=_NORMAL, n=1, scalar=True, inits=None, bounds=None)


def _normfactor(name: str, uses: _Uses) -> _ParameterSet:
    return _ParameterSet(kind=_FREE, n=1, scalar=True, inits=(1.0,), bounds=((0.0, 10.0),))


def _shapefactor(name: str, uses: _Uses) -> _ParameterSet:
    n = len(uses[0][0].data)
    for block, _ in uses:
        if len(block.data) > n:
            msg = (
                f"workspace: {block.name}: the shapefactor {name!r} has {n} parameters, from the first channel that"
                f" uses it; this channel has {len(block.data)} bins"
            )
            raise WorkspaceError(msg)
    return _ParameterSet(kind=_FREE, n=n, scalar=False, inits=(1.0,) * n, bounds=((0.0, 10.0),) * n)


def _shapesys(name: str, uses: _Uses) -> _ParameterSet:
    if len(uses) > 1:
        msg = f"workspace: {uses[1][0].name}: the shapesys {name!r} is on {uses[0][0].name} too; it cannot be shared"
        raise WorkspaceError(msg)
    block, modifier = uses[0]
    usable = [
        nominal > 0 and uncertainty > 0 for nominal, uncertainty in zip(block.data, modifier["data"], strict=True)
    ]
    try:
        factors = tuple(
            nominal**2 / uncertainty**2 if ok else 1.0
            for nominal, uncertainty, ok in zip(block.data, modifier["data"], usable, strict=True)
        )
    except ArithmeticError as error:
        msg = (
            f"workspace: {block.name}: the shapesys {name!r} has an uncertainty whose square is too small or too large"
        )
        raise WorkspaceError(msg) from error
    n = len(factors)
    return _ParameterSet(
        kind=_POISSON,
        n=n,
        scalar=False,
        inits=(1.0,) * n,
        bounds=((1e-10, 10.0),) * n,
        fixed=tuple(not ok for ok in usable),
        auxdata=factors,
        factors=factors,
    )


def _staterror(name: str, uses: _Uses) -> _ParameterSet:
    """All samples that carry it have the same bins; sigma is that of their sum, relative to their sum."""
    first_bins: dict[str, list[int]] = {}
    for block, _ in uses:
        first_bins.setdefault(block.name.split("/", 1)[1], []).append(block.first_bin)
    expected, *others = first_bins.values()
    if any(other != expected for other in others):
        msg = f"workspace: the samples with staterror {name!r} have it in different channels; use one name per channel"
        raise WorkspaceError(msg)
    sigmas: list[float] = []
    for first_bin in expected:
        here = [(block, modifier) for block, modifier in uses if block.first_bin == first_bin]
        total = np.sum([block.data for block, _ in here], axis=0)
        errors = np.array([modifier["data"] for _, modifier in here], dtype=float)
        relative = np.divide(errors, total, out=np.zeros_like(errors), where=total > 0.0)
        sigmas += np.sqrt(np.sum(relative**2, axis=0)).tolist()
    n = len(sigmas)
    return _ParameterSet(
        kind=_NORMAL,
        n=n,
        scalar=False,
        inits=(1.0,) * n,
        bounds=((1e-10, 10.0),) * n,
        fixed=tuple(sigma == 0.0 for sigma in sigmas),
        auxdata=(1.0,) * n,
        sigmas=tuple(sigma if sigma != 0.0 else 1.0 for sigma in sigmas),
    )


_MAKERS: dict[str, Callable[[str, _Uses], _ParameterSet]] = {
    "histosys": _alpha,
    "lumi": _lumi,
    "normfactor": _normfactor,
    "normsys": _alpha,
    "shapefactor": _shapefactor,
    "shapesys": _shapesys,
    "staterror": _staterror,
}


def _apply_overrides(described: _Description, overrides: Sequence[Mapping[str, Any]]) -> None:
    """What the measurement says about parameters: initial values, bounds, fixed, auxiliary data, widths."""
    seen: set[str] = set()
    for override in overrides:
        name = override["name"]
        if name in seen:
            msg = f"workspace: parameters: {name!r} is configured twice"
            raise WorkspaceError(msg)
        seen.add(name)
        if name not in described.sets:
            continue
        made = described.sets[name]
        is_lumi = made.inits is None
        allowed = {
            "inits": True,
            "bounds": True,
            "fixed": True,
            "auxdata": made.auxdata is not None or is_lumi,
            "sigmas": made.sigmas is not None or is_lumi,
            "factors": made.factors is not None,
        }
        changes = {key: value for key, value in override.items() if key != "name"}
        for key, value in changes.items():
            if not allowed.get(key, False) and value:
                msg = f"workspace: parameters[{name}].{key}: a parameter of this type has no {key}"
                raise WorkspaceError(msg)
            if isinstance(value, list | tuple) and len(value) != made.n:
                msg = f"workspace: parameters[{name}].{key}: found {len(value)} values; it has {made.n}"
                raise WorkspaceError(msg)
        described.sets[name] = replace(made, **{key: value for key, value in changes.items() if allowed.get(key)})
    for name, made in described.sets.items():
        missing = [key for key in ("inits", "bounds") if getattr(made, key) is None]
        missing += ["auxdata"] if made.kind != _FREE and made.auxdata is None else []
        missing += ["sigmas"] if made.kind == _NORMAL and made.auxdata is None and made.sigmas is None else []
        if missing:
            msg = f"workspace: parameters[{name}]: {' and '.join(missing)} missing; a luminosity has no defaults"
            raise WorkspaceError(msg)


def _parameters(described: _Description) -> tuple[tuple[Parameter, ...], Constraints, Array]:
    parameters: list[Parameter] = []
    auxdata: list[float] = []
    normal: list[tuple[int, int, float]] = []
    poisson: list[tuple[int, int, float]] = []
    for name, made in described.sets.items():
        assert made.inits is not None
        assert made.bounds is not None
        fixed = [made.fixed] * made.n if isinstance(made.fixed, bool) else list(made.fixed)
        for offset in range(made.n):
            centre = width = None
            if made.kind != _FREE:
                assert made.auxdata is not None
                value = float(made.auxdata[offset])
                where = (len(parameters), len(auxdata))
                if made.kind == _NORMAL:
                    width = float(made.sigmas[offset]) if made.sigmas is not None else 1.0
                    centre = value
                    normal.append((*where, width))
                else:
                    assert made.factors is not None
                    factor = float(made.factors[offset])
                    centre, width = value / factor, 1.0 / math.sqrt(factor)
                    poisson.append((*where, factor))
                auxdata.append(value)
            lower, upper = made.bounds[offset]
            parameters.append(
                Parameter(
                    name=name if made.scalar else f"{name}[{offset}]",
                    init=float(made.inits[offset]),
                    lower=float(lower),
                    upper=float(upper),
                    fixed=bool(fixed[offset]),
                    centre=centre,
                    width=width,
                )
            )
    n_parameter, n_data, n_width = (np.array([entry[i] for entry in normal]) for i in range(3))
    p_parameter, p_data, p_factor = (np.array([entry[i] for entry in poisson]) for i in range(3))
    constraints = Constraints(
        normal_parameter=n_parameter.astype(np.int64),
        normal_data=n_data.astype(np.int64),
        normal_width=n_width.astype(float),
        poisson_parameter=p_parameter.astype(np.int64),
        poisson_data=p_data.astype(np.int64),
        poisson_factor=p_factor.astype(float),
    )
    return tuple(parameters), constraints, np.array(auxdata, dtype=float)


# ---------------------------------------------------------------------------------------------------------- packing


class _Packer:
    """Decides who is a global, a local, or folded in, and writes the arrays of `_model.Model`."""

    def __init__(
        self,
        described: _Description,
        parameters: tuple[Parameter, ...],
        constraints: Constraints,
        *,
        poi_index: int,
        codes: tuple[int, int],
        eliminate: bool,
    ) -> None:
        self._described = described
        self._parameters = parameters
        self._constraints = constraints
        self._poi = poi_index
        self._codes = codes
        n = len(parameters)
        self._kind = np.zeros(n, dtype=np.int64)
        self._width = np.ones(n)
        self._aux = np.full(n, -1, dtype=np.int64)
        self._kind[constraints.normal_parameter] = _NORMAL
        self._width[constraints.normal_parameter] = constraints.normal_width
        self._aux[constraints.normal_parameter] = constraints.normal_data
        self._kind[constraints.poisson_parameter] = _POISSON
        self._width[constraints.poisson_parameter] = constraints.poisson_factor
        self._aux[constraints.poisson_parameter] = constraints.poisson_data
        self._blocks = [block for blocks in described.channels for block in blocks]
        self._offsets = np.cumsum([0, *(len(block.data) for block in self._blocks)])
        self._number = {id(block): index for index, block in enumerate(self._blocks)}
        self._role(eliminate)

    def _cells(self, name: str, kind: str) -> list[list[tuple[int, int]]]:
        """Blocks and bins (of the channel) on which each parameter of a bin-wise name acts."""
        made = self._described.sets[name]
        cells: list[list[tuple[int, int]]] = [[] for _ in range(made.n)]
        begin: dict[int, int] = {}
        position = 0
        for block, _ in self._described.blocks_of[kind, name]:
            if kind == "shapefactor":
                start = 0
            else:  # channel after channel
                if block.first_bin not in begin:
                    begin[block.first_bin] = position
                    position += len(block.data)
                start = begin[block.first_bin]
            number = self._number[id(block)]
            for index in range(len(block.data)):
                cells[start + index].append((number, index))
        return cells

    def _role(self, eliminate: bool) -> None:
        described = self._described
        n_bins = sum(described.n_bins)
        self._local_of = np.full(self._offsets[-1], -1, dtype=np.int64)  # a parameter, for now
        self._fold: list[tuple[int, int, float]] = []
        self._spots: list[list[tuple[int, int]]] = [[] for _ in self._blocks]  # (bin, parameter)
        locals_: list[tuple[int, int]] = []  # (bin, parameter)
        folded: list[int] = []
        taken = np.zeros(n_bins, dtype=bool)  # by a free parameter, of which a bin takes one
        for kind in ("shapefactor", "shapesys", "staterror"):
            for name in [name for found, name in described.blocks_of if found == kind]:
                for offset, cells in enumerate(self._cells(name, kind)):
                    index = described.sets[name].start + offset
                    parameter = self._parameters[index]
                    if eliminate and parameter.fixed and index != self._poi:
                        folded.append(index)
                        self._fold += [(j, b, parameter.init) for j, b in cells]
                        continue
                    bins = {self._blocks[j].first_bin + b for j, b in cells}
                    here = [self._offsets[j] + b for j, b in cells]
                    free = self._kind[index] == _FREE
                    if (
                        eliminate
                        and index != self._poi
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
        self._locals = np.array([index for _, index in locals_], dtype=np.int64)
        self._folded = np.array(sorted(folded), dtype=np.int64)
        self._bin_local = np.searchsorted([b for b, _ in locals_], np.arange(n_bins + 1)).astype(np.int64)
        gone = np.zeros(len(self._parameters), dtype=bool)
        gone[self._locals] = True
        gone[self._folded] = True
        self._globals = np.flatnonzero(~gone).astype(np.int64)
        self._global_of = np.full(len(self._parameters), -1, dtype=np.int64)
        self._global_of[self._globals] = np.arange(len(self._globals))
        number_of = np.full(len(self._parameters) + 1, -1, dtype=np.int64)
        number_of[self._locals] = np.arange(len(self._locals))
        self._local_of = number_of[self._local_of]  # -1 picks the last entry, which is -1

    def packed(self, auxdata: Array) -> FlatModel:
        described, parameters = self._described, self._parameters
        n = len(self._globals)
        nominal = [np.array(block.data, dtype=float) for block in self._blocks]
        factors: list[list[tuple[int, int]]] = []
        ratios: list[tuple[float, float]] = []
        shapes: list[list[int]] = []
        ups: list[Array] = []
        downs: list[Array] = []
        shape_offset: list[int] = []
        cells = 0
        kinked = np.zeros(n, dtype=np.int64)
        folds: dict[int, Array] = {}
        for j, b, value in self._fold:
            folds.setdefault(j, np.ones(len(nominal[j])))[b] *= value
        for j, block in enumerate(self._blocks):
            mine: list[tuple[int, int]] = []
            mine_shapes: list[int] = []
            for modifier in block.modifiers:
                kind, name = modifier["type"], modifier["name"]
                if kind in _BINWISE:
                    continue
                p = int(self._global_of[described.sets[name].start])
                if kind == "histosys":
                    high, low = (np.array(modifier["data"][key], dtype=float) for key in ("hi_data", "lo_data"))
                    scale = folds.get(j, 1.0)
                    ups.append((high - nominal[j]) * scale)
                    downs.append((nominal[j] - low) * scale)
                    mine_shapes.append(p)
                    shape_offset.append(cells)
                    cells += len(high)
                    kinked[p] |= self._codes[1] == 0
                elif kind == "normsys":
                    ratios.append(_ratios(modifier, block.name))
                    mine.append((p, self._codes[0]))
                    kinked[p] |= self._codes[0] == 1
                else:
                    ratios.append((1.0, 1.0))
                    mine.append((p, _PLAIN))
            factors.append(mine)
            shapes.append(mine_shapes)
        for j, scale in folds.items():
            nominal[j] = nominal[j] * scale
        spots = [sorted(entries) for entries in self._spots]
        per_channel = [len(blocks) for blocks in described.channels]
        factor_parameter = np.array([p for entries in factors for p, _ in entries], dtype=np.int64)
        shape_parameter = np.array([p for entries in shapes for p in entries], dtype=np.int64)
        spot_parameter = np.array([self._global_of[p] for entries in spots for _, p in entries], dtype=np.int64)
        starts = [_starts([len(entries) for entries in lists]) for lists in (factors, shapes, spots)]
        acting = (factor_parameter, shape_parameter, spot_parameter)
        active, slots = _active(_starts(per_channel), starts, acting)
        coefficients = normsys_coefficients(ratios)
        up, down = (np.concatenate(parts) if parts else np.zeros(0) for parts in (ups, downs))
        bent, bends, always = self._bent(
            nominal, starts, acting, coefficients, np.array(shape_offset, dtype=np.int64), up, down
        )
        has_products = self._has_products(factors, spots)
        sizes = [
            n,
            self._global_of[self._poi],
            len(described.bin_names),
            len(self._locals),
            len(nominal),
            len(per_channel),
            self._codes[1],
            len(bent),
            always,
            has_products,
        ]
        integers = [
            sizes,
            _starts(per_channel),
            _starts(described.n_bins),
            _starts([len(some) for some in active]),
            np.concatenate(active),
            self._offsets,
            self._local_of,
            self._bin_local,
            self._kind[self._locals],
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
            self._kind[self._globals],
            [parameters[index].fixed for index in self._globals],
            kinked,
            bent,
        ]
        floats = [
            np.concatenate(nominal),
            coefficients.ravel(),
            up,
            down,
            self._width[self._locals],
            [parameters[index].lower for index in self._locals],
            [parameters[index].upper for index in self._locals],
            self._width[self._globals],
            [parameters[index].lower for index in self._globals],
            [parameters[index].upper for index in self._globals],
            [parameters[index].init for index in self._globals],
            bends,
        ]
        integer_parts = [np.asarray(part, dtype=np.int64) for part in integers]
        float_parts = [np.asarray(part, dtype=float) for part in floats]
        n_header = len(integers) + 1 + len(floats) + 1
        header = np.concatenate(
            [
                n_header + _starts([len(part) for part in integer_parts]),
                _starts([len(part) for part in float_parts]),
            ]
        )
        return FlatModel(
            integers=np.concatenate([header, *integer_parts]),
            floats=np.concatenate(float_parts),
            parameters=parameters,
            poi_index=self._poi,
            bin_names=tuple(described.bin_names),
            auxdata=auxdata,
            constraints=self._constraints,
            globals_=self._globals,
            locals_=self._locals,
            folded=self._folded,
            global_data=self._aux[self._globals],
            local_data=self._aux[self._locals],
            may_have_several_minima=len(bent) > 0 or has_products,
            is_likely_to=always > 0 or has_products,
        )

    def _has_products(self, factors: list[list[tuple[int, int]]], spots: list[list[tuple[int, int]]]) -> bool:
        """Whether two free parameters other than the POI multiply each other."""
        global_kind = self._kind[self._globals]
        poi = int(self._global_of[self._poi])
        for j, mine in enumerate(factors):
            local = self._local_of[self._offsets[j] : self._offsets[j + 1]]
            binwise = self._kind[self._locals[local[local >= 0]]].tolist()
            binwise += [self._kind[p] for _, p in spots[j]]
            norms = sum(p != poi and global_kind[p] == _FREE for p, _ in mine)
            if norms + (_FREE in binwise) > 1:
                return True
        return False

    def _bent(
        self,
        nominal: list[Array],
        starts: list[Index],
        acting: tuple[Index, Index, Index],
        coefficients: Array,
        shape_offset: Index,
        up: Array,
        down: Array,
    ) -> tuple[Index, Array, int]:
        """The nuisance parameters in which -2 ln L may have several minima, at most `_MAX_BENT`, the worst first.

        The constraint bends -2 ln L by 2 everywhere. Against it works the even part of a variation,
        (hi + lo)/2 - nominal, in units of the Poisson uncertainty; and a variation that empties a bin.
        Also that part in each bin, row after row; and how many of them are bent so much, or empty a bin, that they
        have to be started on the other side whatever the data are.
        """
        n_blocks = len(nominal)
        bins = [np.arange(block.first_bin, block.first_bin + len(block.data)) for block in self._blocks]
        cells = np.concatenate(nominal)
        all_bins = np.concatenate(bins)
        total = np.bincount(all_bins, weights=cells)
        n_bins, n = len(total), len(self._globals)
        even, odd = np.zeros(n * n_bins), np.zeros(n * n_bins)  # by global and bin, flattened
        lengths = np.array([len(block.data) for block in self._blocks])
        for acts, start, (high, low) in (
            (acting[0], starts[0], (np.exp(coefficients[:, 0]) - 1.0, 1.0 - np.exp(coefficients[:, 1]))),
            (acting[1], starts[1], (up, down)),
        ):
            owner = np.repeat(np.arange(n_blocks), np.diff(start))  # the block of each modifier
            size = lengths[owner]
            at = np.repeat(np.arange(len(owner)), size)  # the modifier of each of its cells
            within = np.arange(len(at)) - np.repeat(np.cumsum(size) - size, size)
            cell = self._offsets[owner[at]] + within
            if acts is acting[0]:
                high, low = high[at] * cells[cell], low[at] * cells[cell]
            where = acts[at] * n_bins + all_bins[cell]
            even += np.bincount(where, weights=0.5 * (high - low), minlength=n * n_bins)
            odd += np.bincount(where, weights=np.minimum(high, -low), minlength=n * n_bins)
        bends, drops = even.reshape(n, n_bins), odd.reshape(n, n_bins)
        strength = np.sqrt(np.sum(bends**2 / (np.maximum(total, 0.0) + 1.0), axis=1))
        strength[strength < _BENT] = 0.0
        empties = ((total + _REACH * drops < 0.0) & (total < _FEW) & (drops < 0.0)).any(axis=1)
        strength = np.maximum(strength, np.where(empties, _ALWAYS_BENT, 0.0))
        order = np.argsort(-strength, kind="stable")
        bent = order[: min(int(np.count_nonzero(strength)), _MAX_BENT)].astype(np.int64)
        return bent, bends[bent].ravel(), int(np.count_nonzero(strength[bent] >= _ALWAYS_BENT))


def _ratios(modifier: Mapping[str, Any], where: str) -> tuple[float, float]:
    high, low = float(modifier["data"]["hi"]), float(modifier["data"]["lo"])
    if not (high > 0.0 and low > 0.0):
        msg = f"workspace: {where}: normsys {modifier['name']!r}: found hi {high}, lo {low}; factors are above 0"
        raise UnusableNumberError(msg)
    return high, low


def normsys_coefficients(ratios: Sequence[tuple[float, float]]) -> Array:
    """Per factor: ln hi, ln lo, and the coefficients of code 4; shape (n_factors, 8)."""
    high, low = np.array(ratios, dtype=float).reshape(-1, 2).T
    up, down = np.log(high), np.log(low)
    target = np.array([high - 1.0, low - 1.0, up * high, -down * low, up**2 * high, down**2 * low])
    coefficients: Array = np.vstack([up, down, _CODE4 @ target]).T
    return coefficients


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
