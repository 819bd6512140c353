"""The likelihood of a HistFactory workspace, compiled: exact derivatives, and fits of microseconds to milliseconds.

The same numbers as `PyhfLikelihood`, which asks pyhf for expected yields and stays the reference. pyhf is not used here,
but for the schema of workspaces.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference.flatten import FlatModel, flatten, flatten_all, pinned
from modelbuilder.inference.likelihood import (
    Counters,
    Derivatives,
    checked_data,
    checked_fixed,
    checked_point,
)
from modelbuilder.inference.results import FitResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference._newton import Expansion
    from modelbuilder.inference.flatten import HistoSysCode, NormSysCode
    from modelbuilder.inference.likelihood import Parameter

    Array = NDArray[np.float64]

TOLERANCE = 1e-12  # on -2 ln L: what the quadratic model may still promise at the minimum
# as in `_limits.py`: -2 ln L over that of a perfect fit, per bin and in all, above which there may be a better minimum
_TENSION = 2.0
_TENSION_OFFSET = 10.0
_N_SCATTERED = 8  # starts, where -2 ln L may have several minima
_EMPTY = 1e-100  # an observation below this counts as no events


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitData:
    """Data as a flat model numbers them.    measured: all auxiliary data, in pyhf order."""

    flat: FlatModel
    counts: Array
    auxiliary: Array
    local_auxiliary: Array
    measured: Array

    @cached_property
    def constant(self) -> float:
        """Of -2 ln L, whatever the globals and locals are."""
        flat, constraints = self.flat, self.flat.constraints
        constant = _saturated(self.counts) + _saturated(self.measured[constraints.poisson_data])
        constant += 2.0 * float(np.sum(np.log(constraints.normal_width * math.sqrt(2.0 * math.pi))))
        if len(flat.folded):
            constant += _initial_constraints(flat, flat.folded, self.measured)
        return constant


class CompiledLikelihood:
    """Likelihood of one measurement of a workspace; see `likelihood.Likelihood` for what it offers.

    patches: lists of RFC 6902 operations on the whole workspace (such as the patches of a pyhf PatchSet), in order.
    normsys_code, histosys_code: interpolation; the defaults are those of pyhf and ROOT. code2 goes on in a straight
    line beyond one sigma, as HistFactory defines it, where pyhf 0.7.6 jumps.
    A bin whose expected yield is negative and that has no events counts as one that expects nothing (pyhf lets
    the likelihood grow instead, without limit); with events in it, the parameters are impossible.
    """

    def __init__(
        self,
        workspace: Mapping[str, Any],
        measurement_name: str | None = None,
        patches: Sequence[Sequence[Mapping[str, Any]]] | None = None,
        *,
        normsys_code: NormSysCode = "code4",
        histosys_code: HistoSysCode = "code4p",
    ) -> None:
        from modelbuilder.inference._pyhf_workspace import check_workspace

        checked = check_workspace(workspace, measurement_name=measurement_name, patches=patches or ())
        self._set_up(checked.model_spec, checked.poi_name, checked.counts, normsys_code, histosys_code)

    @classmethod
    def from_spec(
        cls,
        model_spec: Mapping[str, Any],
        poi_name: str,
        counts: ArrayLike,
        *,
        normsys_code: NormSysCode = "code4",
        histosys_code: HistoSysCode = "code4p",
    ) -> CompiledLikelihood:
        """From what `pyhf.Model` takes: a dict with `channels` and `parameters`, not checked against pyhf's schema.

        counts: observed events, channels sorted by name; followed by auxiliary data where they are not the model's own.
        """
        self = cls.__new__(cls)
        self._set_up(model_spec, poi_name, counts, normsys_code, histosys_code)
        return self

    @classmethod
    def from_model(cls, model: Any, data: ArrayLike) -> CompiledLikelihood:
        """From a `pyhf.Model` and its data, with the model's POI and interpolation codes."""
        settings = model.config.modifier_settings
        return cls.from_spec(
            model.spec,
            model.config.poi_name,
            data,
            normsys_code=settings.get("normsys", {}).get("interpcode", "code1"),
            histosys_code=settings.get("histosys", {}).get("interpcode", "code0"),
        )

    @classmethod
    def many(
        cls,
        workspaces: Sequence[Mapping[str, Any]],
        patches: Sequence[Sequence[Sequence[Mapping[str, Any]]]] | None = None,
    ) -> list[CompiledLikelihood | WorkspaceError]:
        """The likelihood of each workspace, or what is wrong with it.

        Each is the same, to the last bit, as if it were made alone; those that differ in their numbers only are made
        together, which is several times faster.
        patches: for each workspace, as `CompiledLikelihood` takes them.
        """
        from modelbuilder.inference._pyhf_workspace import check_workspace

        found: list[CompiledLikelihood | WorkspaceError] = [WorkspaceError()] * len(workspaces)
        places, keys, numbers, poi_names, counts = [], [], [], [], []
        for place, workspace in enumerate(workspaces):
            try:
                one = check_workspace(workspace, patches=() if patches is None else patches[place])
            except WorkspaceError as error:
                found[place] = error
                continue
            places.append(place)
            keys.append(one.key)
            numbers.append(one.numbers)
            poi_names.append(one.poi_name)
            counts.append(one.counts)  # and not the workspace: so many objects would keep the collector of garbage busy
        flats = flatten_all(keys, numbers, poi_names)
        together: dict[int, list[int]] = {}
        for number, flat in enumerate(flats):
            if isinstance(flat, WorkspaceError):
                found[places[number]] = flat
            else:
                together.setdefault(id(flat.layout), []).append(number)
        for group in together.values():
            models = [flat for flat in (flats[number] for number in group) if isinstance(flat, FlatModel)]
            observed = np.array([counts[number] for number in group], dtype=float)
            auxiliary = np.array([flat.values for flat in models])[:, models[0].layout.auxdata]
            for number, flat, data, split in zip(
                group, models, np.hstack([observed, auxiliary]), _splits(models, observed, auxiliary), strict=True
            ):
                found[places[number]] = cls._ready(flat, poi_names[number], data, split)
        return found

    def _set_up(
        self,
        spec: Mapping[str, Any],
        poi_name: str,
        counts: ArrayLike,
        normsys_code: NormSysCode,
        histosys_code: HistoSysCode,
    ) -> None:
        self._flat = flatten(spec, poi_name, normsys_code=normsys_code, histosys_code=histosys_code)
        self._poi_name = poi_name
        self._counters = Counters()
        values = np.asarray(counts, dtype=float)
        if values.shape == (len(self._flat.bin_names),):
            values = np.concatenate([values, self._flat.auxdata])
        self._observed = np.array(values)
        self._observed_split = self._split(self._flat, self._observed)
        self._observed.setflags(write=False)

    @classmethod
    def _ready(cls, flat: FlatModel, poi_name: str, observed: Array, split: SplitData) -> CompiledLikelihood:
        self = cls.__new__(cls)
        self._flat = flat
        self._poi_name = poi_name
        self._counters = Counters()
        observed.setflags(write=False)
        self._observed = observed
        self._observed_split = split
        return self

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self._flat.parameters

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return self._flat.names

    @property
    def poi_name(self) -> str:
        return self._poi_name

    @property
    def poi_index(self) -> int:
        return self._flat.poi_index

    @property
    def bin_names(self) -> tuple[str, ...]:
        """Names such as `SR[3]` of all bins, in pyhf order."""
        return self._flat.bin_names

    @property
    def observed_data(self) -> Array:
        return self._observed

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def flat(self) -> FlatModel:
        """The arrays that the kernels work on."""
        return self._flat

    def split(self, data: ArrayLike | None = None) -> SplitData:
        """The data as the kernels take them; `data` as everywhere else."""
        return self._observed_split if data is None else self._split(self._flat, data)

    def fit(
        self,
        data: ArrayLike | None = None,
        *,
        start: Sequence[float] | None = None,
        poi_lower: float | None = None,
    ) -> FitResult:
        return self._fit(data, start, poi=None, poi_lower=poi_lower)

    def fit_fixed_poi(
        self, poi: float, data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        return self._fit(data, start, poi=float(poi), poi_lower=None)

    def search_fixed_poi(self, poi: float, data: ArrayLike | None = None) -> FitResult:
        """As `fit_fixed_poi`, from many more starting points, and other ones: to verify a minimum."""
        return self._fit(data, None, poi=float(poi), poi_lower=None, thorough=True)

    def fit_fixed(
        self, fixed: Mapping[str, float], data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        values = checked_fixed(fixed, self.parameters)
        poi = values.pop(self.poi_index, None)
        return self._pinned(values)._fit(data, start, poi=poi, poi_lower=None)

    def saturated_twice_nll(self, data: ArrayLike | None = None) -> float:
        values = self._observed if data is None else np.asarray(data, dtype=float)
        fixed = np.array([index for index, parameter in enumerate(self.parameters) if parameter.fixed], dtype=np.int64)
        constant = self._split(self._full, values).constant
        return constant + _initial_constraints(self._flat, fixed, values[len(self.bin_names) :])

    def twice_nll(self, parameters: Sequence[float], data: ArrayLike | None = None) -> float:
        split = self._split(self._full, self._observed if data is None else data)
        return self._evaluate(self._full, self._point(parameters), split, derivatives=False)[0] + split.constant

    def derivatives(self, parameters: Sequence[float], data: ArrayLike | None = None) -> Derivatives:
        split = self._split(self._full, self._observed if data is None else data)
        value, gradient, hessian, _ = self._evaluate(self._full, self._point(parameters), split, derivatives=True)
        fixed = [index for index, parameter in enumerate(self.parameters) if parameter.fixed]
        gradient[fixed] = 0.0
        hessian[fixed, :] = 0.0
        hessian[:, fixed] = 0.0
        gradient.setflags(write=False)
        hessian.setflags(write=False)
        return Derivatives(twice_nll=value + split.constant, gradient=gradient, hessian=hessian)

    def expected_yields(self, parameters: Sequence[float]) -> Array:
        from modelbuilder.inference._entry import expect_packed

        self._counters.evaluations += 1
        self._counters.points += 1
        yields = np.zeros(len(self.bin_names))
        expect_packed(self._full.integers, self._full.floats, self._point(parameters), np.zeros(0), yields)
        return yields

    def asimov_data(self, parameters: Sequence[float]) -> Array:
        point = self._point(parameters)
        constraints = self._flat.constraints
        auxiliary = np.zeros(len(self._flat.auxdata))
        auxiliary[constraints.normal_data] = point[constraints.normal_parameter]
        auxiliary[constraints.poisson_data] = point[constraints.poisson_parameter] * constraints.poisson_factor
        return np.concatenate([np.maximum(self.expected_yields(parameters), 0.0), auxiliary])

    # ------------------------------------------------------------------------------------------------ the model

    @cached_property
    def _full(self) -> FlatModel:
        """The model with every parameter a global, for values and derivatives at any point."""
        if not len(self._flat.locals_) and not len(self._flat.folded):
            return self._flat  # where each is one already
        return self._flat.with_all_global()

    def _pinned(self, values: Mapping[int, float]) -> CompiledLikelihood:
        """This likelihood with parameters other than the POI fixed, by index; it shares all else, counters included."""
        _ = self._full  # of which there is one, since it does not know what is fixed
        other = copy(self)
        other._flat = pinned(self._flat, values)
        return other

    def _point(self, parameters: Sequence[float]) -> Array:
        return checked_point(parameters, len(self._flat.names))

    def _split(self, flat: FlatModel, data: ArrayLike) -> SplitData:
        constraints = flat.constraints
        counts, auxiliary = checked_data(data, len(flat.bin_names), len(flat.auxdata), constraints.poisson_data)
        extended = np.append(auxiliary, 0.0)  # for those without a measurement, numbered -1
        return SplitData(
            flat=flat,
            counts=counts.copy(),
            auxiliary=extended[flat.global_data],
            local_auxiliary=extended[flat.local_data],
            measured=auxiliary.copy(),
        )

    def _evaluate(
        self, flat: FlatModel, x: Array, split: SplitData, *, derivatives: bool
    ) -> tuple[float, Array, Array, Array]:
        """Value less the constant, gradient, Hessian, locals."""
        from modelbuilder.inference._entry import evaluate_packed

        self._counters.evaluations += 1
        self._counters.points += 1
        n = len(flat.globals_)
        gradient, hessian, gamma = np.zeros(n), np.zeros((n, n)), np.ones(len(flat.locals_))
        value = evaluate_packed(
            flat.integers,
            flat.floats,
            split.counts,
            split.auxiliary,
            split.local_auxiliary,
            x,
            derivatives,
            gradient,
            hessian,
            gamma,
        )
        return value, gradient, hessian, gamma

    # --------------------------------------------------------------------------------------------- the fit

    def _bounds(self, poi: float | None, poi_lower: float | None) -> tuple[Array, Array]:
        """Lower and upper of all parameters; a fixed one has no room, the POI no upper bound."""
        lower = np.array([p.init if p.fixed else p.lower for p in self.parameters])
        upper = np.array([p.init if p.fixed else p.upper for p in self.parameters])
        upper[self.poi_index] = math.inf
        if poi_lower is not None:
            lower[self.poi_index] = poi_lower
        if poi is not None:
            lower[self.poi_index] = upper[self.poi_index] = poi
        return lower, upper

    def _fit(
        self,
        data: ArrayLike | None,
        start: Sequence[float] | None,
        *,
        poi: float | None,
        poi_lower: float | None,
        thorough: bool = False,
    ) -> FitResult:
        split = self.split(data)
        before = self._counters.fits, self._counters.evaluations
        lower, upper = self._bounds(poi, poi_lower)
        flat = self._flat
        x, gamma, gradient, value = self._minimum(
            split, start, lower, upper, poi_fixed=poi is not None, thorough=thorough
        )
        point = np.array([parameter.init for parameter in self.parameters])
        point[flat.globals_] = x
        point[flat.locals_] = gamma
        yields = self.expected_yields(point.tolist())
        touching = (upper > lower) & ((point <= lower) | (point >= upper))
        return FitResult(
            parameter_names=self._flat.names,
            bestfit=tuple(point.tolist()),
            twice_nll=value + split.constant,
            poi_name=self._poi_name,
            poi_value=float(point[self.poi_index]),
            poi_fixed=poi is not None,
            poi_gradient=float(gradient[flat.globals_ == self.poi_index][0]),
            at_bounds=tuple(self._flat.names[index] for index in np.flatnonzero(touching)),
            clipped_bins=tuple(self.bin_names[index] for index in np.flatnonzero(yields < 0.0)),
            fits=self._counters.fits - before[0],
            evaluations=self._counters.evaluations - before[1],
        )

    def _minimum(
        self,
        split: SplitData,
        start: Sequence[float] | None,
        lower: Array,
        upper: Array,
        *,
        poi_fixed: bool,
        thorough: bool,
    ) -> tuple[Array, Array, Array, float]:
        """The retry ladder: Newton from several starts, then from where a quasi-Newton ends, then a named failure.

        Where -2 ln L is likely to have several minima, the lowest that is found from all of many starts.
        """
        flat = self._flat
        low, high = lower[flat.globals_], upper[flat.globals_]
        nominal = np.array([parameter.init for parameter in self.parameters])
        starts = [self._point(start)] if start is not None else []
        starts += [nominal, *self._other_starts(nominal)]
        poi_lower = float(lower[self.poi_index])

        def newton(points: list[Array], *, search: bool = False) -> _Found:
            inside = np.clip(np.array(points)[:, flat.globals_], low, high)
            return self._newton(split, inside, poi_fixed=poi_fixed, poi_lower=poi_lower, search=search)

        search = flat.is_likely_to or (flat.may_have_several_minima and thorough)
        if not search:
            found = newton(starts)
            tension = found.value > _TENSION * len(self.bin_names) + _TENSION_OFFSET
            search = flat.may_have_several_minima and tension
        if search:
            starts += self._scattered_starts(nominal, thorough=thorough)
            found = newton(starts, search=True)
        if found.status == 0:
            return found.x, found.gamma, found.gradient, found.value
        if math.isfinite(found.value):
            rough = nominal.copy()
            rough[flat.globals_] = self._rough(split, found.x, low, high)
            again = newton([rough])
            if again.status == 0:
                return again.x, again.gamma, again.gradient, again.value
        raise self._failure(split, found, len(starts))

    def _newton(
        self, split: SplitData, starts: Array, *, poi_fixed: bool, poi_lower: float, search: bool = False
    ) -> _Found:
        from modelbuilder.inference._entry import fit_packed

        flat = self._flat
        n = len(flat.globals_)
        x, gradient, gamma = np.zeros(n), np.zeros(n), np.ones(len(flat.locals_))
        counters = np.zeros(2, dtype=np.int64)
        value, status = fit_packed(
            flat.integers,
            flat.floats,
            split.counts,
            split.auxiliary,
            split.local_auxiliary,
            np.ascontiguousarray(starts),
            poi_fixed,
            poi_lower,
            TOLERANCE,
            search,
            x,
            gamma,
            gradient,
            counters,
        )
        self._counters.fits += int(counters[0])
        self._counters.evaluations += int(counters[1])
        self._counters.points += int(counters[1])
        return _Found(x=x, gamma=gamma, gradient=gradient, value=value, status=status)

    def _rough(self, split: SplitData, start: Array, lower: Array, upper: Array) -> Array:
        from modelbuilder.inference._newton import Expansion
        from modelbuilder.inference._scipy_minimise import rough_minimum

        free = upper > lower

        def place(x: Array) -> Array:
            point = np.clip(start, lower, upper)
            point[free] = x
            return point

        def expand(x: Array) -> Expansion:
            value, gradient, hessian, _ = self._evaluate(self._flat, place(x), split, derivatives=True)
            inner = hessian[np.ix_(free, free)]
            return Expansion(value=value, gradient=gradient[free], hessian=inner, safe_hessian=inner)

        def value(x: Array) -> float:
            return self._evaluate(self._flat, place(x), split, derivatives=False)[0]

        self._counters.fits += 1
        return place(rough_minimum(expand, value, start[free], lower[free], upper[free]))

    def _other_starts(self, nominal: Array) -> list[Array]:
        """A strong signal, a weak one, and all free yields scaled: where the nominal start makes the data impossible."""
        poi = self.poi_index
        strong, weak, raised = nominal.copy(), nominal.copy(), nominal.copy()
        strong[poi] = max(10.0 * abs(nominal[poi]), 1.0)
        weak[poi] = 1e-3 * nominal[poi]
        for index, parameter in enumerate(self.parameters):
            if parameter.width is None and index != poi:
                raised[index] = max(3.0 * raised[index], 0.3)
        return [strong, weak, raised]

    def _scattered_starts(self, nominal: Array, *, thorough: bool) -> list[Array]:
        """Points spread as the constraints are, and over a decade where there are none; always the same ones."""
        rng = np.random.default_rng(2 if thorough else 1)
        n = 3 * _N_SCATTERED if thorough else _N_SCATTERED
        points = np.tile(nominal, (n, 1))
        for index, parameter in enumerate(self.parameters):
            deviates = rng.standard_normal(n)
            if index == self.poi_index or parameter.fixed:
                continue
            if parameter.width is not None and parameter.centre is not None:
                points[:, index] = parameter.centre + 1.2 * parameter.width * deviates
            else:
                points[:, index] = abs(nominal[index]) * 10.0 ** (0.7 * deviates)
        return list(points)

    def _failure(self, split: SplitData, found: _Found, n_starts: int) -> FitFailure:
        flat = self._flat
        point = np.array([parameter.init for parameter in self.parameters])
        point[flat.globals_] = found.x
        point[flat.locals_] = found.gamma
        at = f"{self._poi_name} = {point[self.poi_index]:.6g}"
        if not math.isfinite(found.value):
            yields = self.expected_yields(point.tolist())
            where = ", ".join(
                f"{self.bin_names[index]} has {split.counts[index]:.6g} events and expects {yields[index]:.6g}"
                for index in np.flatnonzero((split.counts > _EMPTY) & ~(yields > 0.0))[:3]
            )
            detail = f"the data are impossible at every start ({at}): {where or 'an auxiliary measurement is'}"
            return FitFailure("nll-not-finite", detail)
        name = self._flat.names[flat.globals_[int(np.argmax(np.abs(found.gradient)))]]
        detail = (
            f"no minimum from {n_starts} starts; the best stopped at {at}, twice NLL"
            f" {found.value + split.constant:.8g}, steepest along {name}"
        )
        return FitFailure("not-converged", detail)


@dataclass(frozen=True, kw_only=True)
class _Found:
    """Where the compiled fit ended. value: less the constant.    status: of `_fit`, 0 if converged."""

    x: Array
    gamma: Array
    gradient: Array
    value: float
    status: int


def _splits(flats: Sequence[FlatModel], counts: Array, auxiliary: Array) -> list[SplitData]:
    """The observed data of models of one layout; auxiliary: shape (n_models, n_auxiliary)."""
    layout = flats[0].layout
    extended = np.hstack([auxiliary, np.zeros((len(flats), 1))])
    rows = (counts, extended[:, layout.global_data], extended[:, layout.local_data], auxiliary)
    return [
        SplitData(flat=flat, counts=mine, auxiliary=of_globals, local_auxiliary=of_locals, measured=measured)
        for flat, mine, of_globals, of_locals, measured in zip(flats, *rows, strict=True)
    ]


def _saturated(counts: Array) -> float:
    """-2 ln of the Poisson probability of the counts when each is its own expectation."""
    from scipy.special import gammaln, xlogy

    return 2.0 * float(np.sum(counts - xlogy(counts, counts) + gammaln(counts + 1.0)))


def _initial_constraints(flat: FlatModel, which: NDArray[np.int64], auxiliary: Array) -> float:
    """-2 ln L of the constraint terms of these parameters at their initial values, less constants."""
    constraints = flat.constraints
    init = np.array([parameter.init for parameter in flat.parameters])
    normal = np.isin(constraints.normal_parameter, which)
    where = constraints.normal_parameter[normal]
    pulls = (init[where] - auxiliary[constraints.normal_data[normal]]) / constraints.normal_width[normal]
    poisson = np.isin(constraints.poisson_parameter, which)
    rates = init[constraints.poisson_parameter[poisson]] * constraints.poisson_factor[poisson]
    counts = auxiliary[constraints.poisson_data[poisson]]
    from scipy.special import xlogy

    return float(pulls @ pulls) + 2.0 * float(np.sum(rates - counts - xlogy(counts, rates) + xlogy(counts, counts)))
