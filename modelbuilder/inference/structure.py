"""A HistFactory specification without its numbers: which parameters there are, and which number is what.

Workspaces of one search differ in their numbers only. `read` takes a specification apart into a key, which is the same
for all of them, and the numbers; `structure_of` the key makes what can be said once. The rules are pyhf's: its order of
parameters and data, its defaults, its merging of staterror. What pyhf rejects is a `WorkspaceError` here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import WorkspaceError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.float64]
    Flags = NDArray[np.bool_]

Key = tuple[Any, ...]

FREE, NORMAL, POISSON = 0, 1, 2  # as in _binwise.py, which imports numba

# pyhf.modifiers.histfactory_set: the order in which parameters are created
TYPES = ("histosys", "lumi", "normfactor", "normsys", "shapefactor", "shapesys", "staterror")
BINWISE = frozenset({"shapefactor", "shapesys", "staterror"})

# The first columns of the values of a model; then come its numbers, and what is calculated from them
_CONSTANTS = (0.0, 1.0, -5.0, 5.0, 10.0, 1e-10)
ZERO, ONE, _MINUS_FIVE, _FIVE, _TEN, _TINY = range(len(_CONSTANTS))
_N_KEPT = 64  # structures


@dataclass(frozen=True, kw_only=True)
class Modifier:
    """at: column of its first number: hi, lo; all of hi_data, then lo_data; or its data."""

    kind: str
    name: str
    at: int


@dataclass(frozen=True, kw_only=True)
class Block:
    """A sample in a channel. first_bin: of the channel, among all bins.    at: column of its first yield."""

    name: str
    first_bin: int
    n: int
    at: int
    modifiers: tuple[Modifier, ...]

    @property
    def columns(self) -> range:
        """Of its yields."""
        return range(self.at, self.at + self.n)


@dataclass(frozen=True, kw_only=True)
class ParameterSet:
    """What one name stands for; the fields are those of a pyhf paramset, as columns.

    fixed: one flag for each parameter; None where those are fixed whose uncertainty is zero.
    """

    kind: int
    n: int
    scalar: bool
    inits: tuple[int, ...] | None
    bounds: tuple[int, ...] | None  # lower and upper of the first, of the second, ...
    auxdata: tuple[int, ...] | None = None
    sigmas: tuple[int, ...] | None = None
    factors: tuple[int, ...] | None = None
    fixed: tuple[bool, ...] | None = None
    start: int = 0


Uses = list[tuple[Block, Modifier]]


@dataclass(frozen=True, kw_only=True, eq=False)
class Structure:
    """All that specifications with one key have in common.

    channels: their blocks, in pyhf's order.    blocks_of: the blocks that a modifier is on, by type and name.
    calculated: names of the shapesys and staterror, in the order of the columns that are calculated for them.
    """

    channels: tuple[tuple[Block, ...], ...]
    n_bins: tuple[int, ...]
    bin_names: tuple[str, ...]
    n_numbers: int
    sets: Mapping[str, ParameterSet]
    blocks_of: Mapping[tuple[str, str], Uses]
    calculated: tuple[tuple[str, str], ...]
    poi_index: int
    names: tuple[str, ...] = field(repr=False)

    def values(self, numbers: Array) -> tuple[Array, Flags, list[WorkspaceError | None]]:
        """All columns, which parameters are fixed, and what is wrong; one row for each model."""
        n_models = len(numbers)
        parts = [np.tile(_CONSTANTS, (n_models, 1)), numbers]
        usable: dict[str, Flags] = {}
        errors: list[WorkspaceError | None] = [None] * n_models
        known = np.hstack(parts)
        for kind, name in self.calculated:
            uses = self.blocks_of[kind, name]
            found, usable[name] = (_shapesys_factors if kind == "shapesys" else _staterror_sigmas)(known, uses)
            for row in np.flatnonzero(~np.isfinite(found).all(axis=1)):
                errors[row] = WorkspaceError(
                    f"workspace: {uses[0][0].name}: the {kind} {name!r} has an uncertainty whose square is too small or"
                    " too large"
                )
            parts.append(found)
        fixed = np.zeros((n_models, len(self.names)), dtype=bool)
        for name, made in self.sets.items():
            where = slice(made.start, made.start + made.n)
            fixed[:, where] = made.fixed if made.fixed is not None else ~usable[name]
        return np.hstack(parts), fixed, errors


def read(spec: Mapping[str, Any]) -> tuple[Key, list[float]]:
    """The key and the numbers of a specification, a dict with `channels` and `parameters` as `pyhf.Model` takes it."""
    numbers: list[float] = []
    channels = []
    for channel in spec["channels"]:
        samples = []
        for sample in channel["samples"]:
            data = sample["data"]
            numbers.extend(data)
            modifiers: list[Key] = []
            for modifier in sample["modifiers"]:
                kind, content = modifier["type"], modifier["data"]
                if kind == "normsys":
                    numbers.append(content["hi"])
                    numbers.append(content["lo"])
                    modifiers.append((kind, modifier["name"]))
                elif kind == "histosys":
                    high, low = content["hi_data"], content["lo_data"]
                    numbers.extend(high)
                    numbers.extend(low)
                    modifiers.append((kind, modifier["name"], len(high), len(low)))
                elif kind in ("staterror", "shapesys"):
                    numbers.extend(content)
                    modifiers.append((kind, modifier["name"], len(content)))
                else:
                    modifiers.append((kind, modifier["name"]))
            samples.append((sample["name"], len(data), *modifiers))
        channels.append((channel["name"], *samples))
    overrides = [_read_override(override, numbers) for override in spec.get("parameters", ())]
    return (tuple(channels), tuple(overrides)), numbers


def _read_override(override: Mapping[str, Any], numbers: list[float]) -> Key:
    items: list[Any] = [override["name"]]
    for key, value in override.items():
        if key in ("inits", "auxdata", "sigmas", "factors") and value is not None:
            numbers.extend(value)
            items.append((key, len(value)))
        elif key == "bounds" and value is not None:
            for pair in value:
                if len(pair) != 2:
                    msg = (
                        f"workspace: parameters[{override['name']}].bounds: found {pair}; each entry is [lower, upper]"
                    )
                    raise WorkspaceError(msg)
                numbers.extend(pair)
            items.append((key, len(value)))
        elif key == "fixed":
            items.append((key, tuple(value) if isinstance(value, list | tuple) else bool(value)))
        elif key != "name":
            items.append((key, bool(value)))
    return tuple(items)


@lru_cache(maxsize=_N_KEPT)
def structure_of(key: Key, poi_name: str) -> Structure:
    """The structure of all specifications with this key. Raises WorkspaceError for what pyhf does not take."""
    channels, overrides = key
    blocks_by_channel = []
    at = len(_CONSTANTS)
    for name, *samples in channels:
        blocks = []
        for sample_name, n, *modifiers in samples:
            first = at
            at += n
            found = []
            for kind, modifier_name, *lengths in modifiers:
                found.append((Modifier(kind=kind, name=modifier_name, at=at), lengths))
                at += 2 if kind == "normsys" else sum(lengths)
            blocks.append((sample_name, n, first, found))
        blocks_by_channel.append((name, blocks))
    changes = []
    for name, *items in overrides:
        columns: dict[str, Any] = {}
        for what, size in items:
            if what in ("inits", "auxdata", "sigmas", "factors", "bounds") and not isinstance(size, bool):
                width = 2 * size if what == "bounds" else size
                columns[what] = tuple(range(at, at + width))
                at += width
            else:
                columns[what] = size
        changes.append((name, columns))
    return _Builder(blocks_by_channel, changes, at).structure(poi_name)


class _Builder:
    def __init__(self, channels: Any, changes: list[tuple[str, dict[str, Any]]], n_columns: int) -> None:
        self._changes = changes
        self._n_columns = n_columns  # known so far
        self._n_numbers = n_columns - len(_CONSTANTS)
        self._blocks_of: dict[tuple[str, str], Uses] = {}
        self._channels: list[tuple[Block, ...]] = []
        self._n_bins: list[int] = []
        self._bin_names: list[str] = []
        self._sets: dict[str, ParameterSet] = {}
        self._calculated: list[tuple[str, str]] = []
        first_bin = 0
        for name, samples in sorted(channels, key=lambda channel: str(channel[0])):
            n = samples[0][1]
            self._channels.append(
                tuple(
                    self._block(name, first_bin, n, *sample) for sample in sorted(samples, key=lambda one: str(one[0]))
                )
            )
            self._n_bins.append(n)
            self._bin_names += [f"{name}[{index}]" for index in range(n)]
            first_bin += n

    def _block(
        self, channel: str, first_bin: int, n_bins: int, name: str, n: int, at: int, found: list[tuple[Modifier, Any]]
    ) -> Block:
        found = sorted(found, key=lambda one: (one[0].name, one[0].kind))
        block = Block(
            name=f"{channel}/{name}", first_bin=first_bin, n=n, at=at, modifiers=tuple(one for one, _ in found)
        )
        lengths = {"data": n}
        for modifier, sizes in found:
            keys = (f" {key}" for key in ("hi_data", "lo_data")) if len(sizes) == 2 else ("",)
            lengths |= {f"{modifier.name}{key}": size for key, size in zip(keys, sizes, strict=False)}
        for what, length in lengths.items():
            if length != n_bins:
                msg = f"workspace: {block.name}: {what}: found {length} values; the channel has {n_bins} bins"
                raise WorkspaceError(msg)
        for modifier, _ in found:
            if modifier.kind not in TYPES:
                msg = f"workspace: {block.name}: unknown modifier {modifier.kind!r}; known: {', '.join(TYPES)}"
                raise WorkspaceError(msg)
            self._blocks_of.setdefault((modifier.kind, modifier.name), []).append((block, modifier))
        return block

    def structure(self, poi_name: str) -> Structure:
        order = [key for kind in TYPES for key in self._blocks_of if key[0] == kind and kind != "staterror"]
        order += sorted(key for key in self._blocks_of if key[0] == "staterror")
        for kind, name in order:
            made = self._made(kind, name, self._blocks_of[kind, name])
            if name not in self._sets:
                self._sets[name] = made
            elif self._sets[name] != made:
                msg = f"workspace: the name {name!r} is used by modifiers that need different parameters; use unique names"
                raise WorkspaceError(msg)
        if not self._sets:
            msg = "workspace: the model has no parameters"
            raise WorkspaceError(msg)
        self._apply_changes()
        start, names = 0, []
        for name, made in self._sets.items():
            self._sets[name] = replace(made, start=start)
            start += made.n
            names += [name] if made.scalar else [f"{name}[{index}]" for index in range(made.n)]
        if poi_name not in self._sets or self._sets[poi_name].n != 1:
            msg = f"workspace: the parameter of interest {poi_name!r} has to be one parameter of the model"
            raise WorkspaceError(msg)
        return Structure(
            channels=tuple(self._channels),
            n_bins=tuple(self._n_bins),
            bin_names=tuple(self._bin_names),
            n_numbers=self._n_numbers,
            sets=self._sets,
            blocks_of=self._blocks_of,
            calculated=tuple(self._calculated),
            poi_index=self._sets[poi_name].start,
            names=tuple(names),
        )

    def _made(self, kind: str, name: str, uses: Uses) -> ParameterSet:
        if kind in ("normsys", "histosys"):
            return ParameterSet(
                kind=NORMAL,
                n=1,
                scalar=True,
                inits=(ZERO,),
                bounds=(_MINUS_FIVE, _FIVE),
                auxdata=(ZERO,),
                fixed=(False,),
            )
        if kind == "lumi":
            return ParameterSet(kind=NORMAL, n=1, scalar=True, inits=None, bounds=None, fixed=(False,))
        if kind == "normfactor":
            return ParameterSet(kind=FREE, n=1, scalar=True, inits=(ONE,), bounds=(ZERO, _TEN), fixed=(False,))
        n = _N_PARAMETERS[kind](name, uses)
        common: dict[str, Any] = {"n": n, "scalar": False, "inits": (ONE,) * n}
        if kind == "shapefactor":
            return ParameterSet(kind=FREE, bounds=(ZERO, _TEN) * n, fixed=(False,) * n, **common)
        columns = tuple(range(self._n_columns, self._n_columns + n))
        self._n_columns += n
        self._calculated.append((kind, name))
        if kind == "shapesys":
            return ParameterSet(kind=POISSON, bounds=(_TINY, _TEN) * n, auxdata=columns, factors=columns, **common)
        return ParameterSet(kind=NORMAL, bounds=(_TINY, _TEN) * n, auxdata=(ONE,) * n, sigmas=columns, **common)

    def _apply_changes(self) -> None:
        """What the measurement says about parameters: initial values, bounds, fixed, auxiliary data, widths."""
        seen: set[str] = set()
        for name, changes in self._changes:
            if name in seen:
                msg = f"workspace: parameters: {name!r} is configured twice"
                raise WorkspaceError(msg)
            seen.add(name)
            if name in self._sets:
                self._sets[name] = _changed(name, self._sets[name], changes)
        for name, made in self._sets.items():
            missing = [key for key in ("inits", "bounds") if getattr(made, key) is None]
            missing += ["auxdata"] if made.kind != FREE and made.auxdata is None else []
            missing += ["sigmas"] if made.kind == NORMAL and made.auxdata is None and made.sigmas is None else []
            if missing:
                msg = f"workspace: parameters[{name}]: {' and '.join(missing)} missing; a luminosity has no defaults"
                raise WorkspaceError(msg)


def _changed(name: str, made: ParameterSet, changes: dict[str, Any]) -> ParameterSet:
    is_lumi = made.inits is None
    allowed = {
        "inits": True,
        "bounds": True,
        "fixed": True,
        "auxdata": made.auxdata is not None or is_lumi,
        "sigmas": made.sigmas is not None or is_lumi,
        "factors": made.factors is not None,
    }
    taken: dict[str, Any] = {}
    for key, value in changes.items():
        if not allowed.get(key, False) and value:
            msg = f"workspace: parameters[{name}].{key}: a parameter of this type has no {key}"
            raise WorkspaceError(msg)
        if isinstance(value, tuple):
            n = len(value) // 2 if key == "bounds" else len(value)
            if n != made.n:
                msg = f"workspace: parameters[{name}].{key}: found {n} values; it has {made.n}"
                raise WorkspaceError(msg)
        if key == "fixed":
            taken[key] = value if isinstance(value, tuple) else (value,) * made.n
        elif allowed.get(key, False):
            taken[key] = value if isinstance(value, tuple) else None
    return replace(made, **taken)


def _n_shapefactor(name: str, uses: Uses) -> int:
    n = uses[0][0].n
    for block, _ in uses:
        if block.n > n:
            msg = (
                f"workspace: {block.name}: the shapefactor {name!r} has {n} parameters, from the first channel that"
                f" uses it; this channel has {block.n} bins"
            )
            raise WorkspaceError(msg)
    return n


def _n_shapesys(name: str, uses: Uses) -> int:
    if len(uses) > 1:
        msg = f"workspace: {uses[1][0].name}: the shapesys {name!r} is on {uses[0][0].name} too; it cannot be shared"
        raise WorkspaceError(msg)
    return uses[0][0].n


def _n_staterror(name: str, uses: Uses) -> int:
    """All samples that carry it have the same bins."""
    first_bins: dict[str, list[int]] = {}
    for block, _ in uses:
        first_bins.setdefault(block.name.split("/", 1)[1], []).append(block.first_bin)
    expected, *others = first_bins.values()
    if any(other != expected for other in others):
        msg = f"workspace: the samples with staterror {name!r} have it in different channels; use one name per channel"
        raise WorkspaceError(msg)
    n_of = {block.first_bin: block.n for block, _ in uses}
    return sum(n_of[first_bin] for first_bin in expected)


_N_PARAMETERS: dict[str, Callable[[str, Uses], int]] = {
    "shapefactor": _n_shapefactor,
    "shapesys": _n_shapesys,
    "staterror": _n_staterror,
}


def _shapesys_factors(values: Array, uses: Uses) -> tuple[Array, Flags]:
    """Events of the auxiliary measurement of each bin, NaN where that cannot be a number; and which bins have one."""
    block, modifier = uses[0]
    nominal, uncertainty = values[:, block.columns], values[:, modifier.at : modifier.at + block.n]
    usable = (nominal > 0.0) & (uncertainty > 0.0)
    with np.errstate(all="ignore"):
        factors = nominal * nominal / (uncertainty * uncertainty)
        factors[~((factors > 0.0) & (factors < np.inf))] = np.nan
    factors[~usable] = 1.0
    return factors, usable


def _staterror_sigmas(values: Array, uses: Uses) -> tuple[Array, Flags]:
    """Uncertainty of the sum of the samples that carry it, relative to their sum; 1 where there is none."""
    parts = []
    for first_bin in dict.fromkeys(block.first_bin for block, _ in uses):
        here: Sequence[tuple[Block, Modifier]] = [use for use in uses if use[0].first_bin == first_bin]
        total = np.zeros((len(values), here[0][0].n))
        for block, _ in here:
            total += values[:, block.columns]
        squares = np.zeros_like(total)
        with np.errstate(all="ignore"):
            for block, modifier in here:
                errors = values[:, modifier.at : modifier.at + block.n]
                relative = np.divide(errors, total, out=np.zeros_like(errors), where=total > 0.0)
                squares += relative * relative
        parts.append(np.sqrt(squares))
    sigmas = np.hstack(parts)
    usable = sigmas != 0.0
    sigmas[~usable] = 1.0
    return sigmas, usable
