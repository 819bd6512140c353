"""The likelihood of a HistFactory workspace, with pyhf computing the expected yields.

pyhf is asked only for expected yields, many parameter points per call (its `batch_size`). Their derivatives come from
central differences, in which parameters that act on different bins (staterror, shapesys) share one direction; the
Poisson and Gaussian terms above them are differentiated exactly, so that the differences are not taken of a large
-2 ln L. That gives a full Hessian for the price of a few calls, and a bounded Newton converges in a few steps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.inference._newton import Expansion, Minimum, minimise
from modelbuilder.inference.likelihood import (
    Counters,
    Derivatives,
    Parameter,
    checked_data,
    checked_fixed,
    checked_point,
)
from modelbuilder.inference.results import FitResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference._pyhf_workspace import CheckedWorkspace

    Array = NDArray[np.float64]

TOLERANCE = 1e-12  # on twice NLL: what the quadratic model may still promise at the minimum
LOOSE_TOLERANCE = 1e-8  # the same where rounding forbids the above
_CHUNK_ELEMENTS = 60_000  # numbers in pyhf's largest intermediate array per call: what stays in a core's cache
_EMPTY = 1e-100  # an observation below this counts as no events
_CLIP_WIDTH = 1e-6  # events: how far below zero the term of an empty bin goes on falling
_SHAPE_STEP = 1e-3  # step of parameters with a unit constraint in which the yields are not linear
_LINEAR_STEP = 0.1  # step of the others, in standard deviations


@dataclass(frozen=True, kw_only=True)
class _Data:
    """Observed or Asimov data, with what does not depend on the parameters worked out."""

    main: Array
    poisson_aux: Array
    normal_aux: Array
    constant: float


class PyhfLikelihood:
    """Likelihood of one measurement of a workspace; see `likelihood.Likelihood` for what it offers.

    patches: lists of RFC 6902 operations on the whole workspace (such as the patches of a pyhf PatchSet), in order.
    A bin whose expected yield is negative and that has no events counts as one that expects nothing (pyhf lets
    the likelihood grow instead, without limit); with events in it, the parameters are impossible.
    """

    def __init__(
        self,
        workspace: Mapping[str, Any],
        measurement_name: str | None = None,
        patches: Sequence[Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        from modelbuilder.inference._pyhf_backend import numpy_backend
        from modelbuilder.inference._pyhf_workspace import check_workspace, pyhf_model

        self._backend = numpy_backend
        self._checked: CheckedWorkspace = check_workspace(
            workspace, measurement_name=measurement_name, patches=patches or ()
        )
        self._counters = Counters()
        with self._backend():
            self._model = pyhf_model(self._checked)
            config = self._model.config
            self._parameters = _parameters(self._model)
            self._names = tuple(parameter.name for parameter in self._parameters)
            self._poi_index = int(config.poi_index)
            self._n_bins = int(config.nmaindata)
            self._bin_names = tuple(
                f"{channel}[{index}]" for channel in config.channels for index in range(config.channel_nbins[channel])
            )
            self._read_constraints()
            observed = [count for channel in config.channels for count in self._checked.observations[channel]]
            self._observed = _frozen(np.array([*observed, *config.auxdata], dtype=float))
            self._observed_terms = self._prepare(self._observed)
            self._plan = _DerivativePlan(self)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        return self._parameters

    @property
    def parameter_names(self) -> tuple[str, ...]:
        return self._names

    @property
    def poi_name(self) -> str:
        return self._checked.poi_name

    @property
    def poi_index(self) -> int:
        return self._poi_index

    @property
    def bin_names(self) -> tuple[str, ...]:
        """Names such as `SR[3]` of all bins, in pyhf order."""
        return self._bin_names

    @property
    def observed_data(self) -> Array:
        return self._observed

    @property
    def counters(self) -> Counters:
        return self._counters

    @property
    def model(self) -> Any:
        """The `pyhf.Model`; use it inside `_pyhf_backend.numpy_backend()`, and leave it as it is."""
        return self._model

    def fit(
        self,
        data: ArrayLike | None = None,
        *,
        start: Sequence[float] | None = None,
        poi_lower: float | None = None,
    ) -> FitResult:
        lower, upper = self._bounds()
        if poi_lower is not None:
            lower[self._poi_index] = poi_lower
        return self._fit(data, start, lower, upper, poi=None)

    def fit_fixed_poi(
        self, poi: float, data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        lower, upper = self._bounds()
        lower[self._poi_index] = upper[self._poi_index] = poi
        return self._fit(data, start, lower, upper, poi=poi)

    def fit_fixed(
        self, fixed: Mapping[str, float], data: ArrayLike | None = None, *, start: Sequence[float] | None = None
    ) -> FitResult:
        values = checked_fixed(fixed, self._parameters)
        lower, upper = self._bounds()
        for index, value in values.items():
            lower[index] = upper[index] = value
        return self._fit(data, start, lower, upper, poi=values.get(self._poi_index))

    def saturated_twice_nll(self, data: ArrayLike | None = None) -> float:
        terms = self._prepare(data)
        fixed = np.array([parameter.fixed for parameter in self._parameters])
        init = np.array([parameter.init for parameter in self._parameters])
        pulls = ((terms.normal_aux - init[self._normal_index]) / self._normal_sigma)[fixed[self._normal_index]]
        poisson = fixed[self._poisson_index]
        rates = (init[self._poisson_index] * self._poisson_factor)[poisson]
        return terms.constant + float(pulls @ pulls) + _poisson_value(terms.poisson_aux[poisson], rates)

    def twice_nll(self, parameters: Sequence[float], data: ArrayLike | None = None) -> float:
        terms = self._prepare(data)
        with self._backend():
            return self._value(self._point(parameters), terms) + terms.constant

    def derivatives(self, parameters: Sequence[float], data: ArrayLike | None = None) -> Derivatives:
        terms = self._prepare(data)
        with self._backend():
            expansion = self._expand(self._point(parameters), terms)
        return Derivatives(
            twice_nll=expansion.value + terms.constant,
            gradient=_frozen(expansion.gradient),
            hessian=_frozen(expansion.hessian),
        )

    def expected_yields(self, parameters: Sequence[float]) -> Array:
        with self._backend():
            return self._yields(self._point(parameters)).copy()

    def asimov_data(self, parameters: Sequence[float]) -> Array:
        point = self._point(parameters)
        with self._backend():
            main = np.maximum(self._yields(point), 0.0)
        aux = np.zeros(len(self._observed) - self._n_bins)
        aux[self._normal_data] = point[self._normal_index]
        aux[self._poisson_data] = point[self._poisson_index] * self._poisson_factor
        return np.concatenate([main, aux])

    # ------------------------------------------------------------------------------------------------ the model

    def _read_constraints(self) -> None:
        normal, poisson = (
            self._model.constraint_model.constraints_gaussian,
            self._model.constraint_model.constraints_poisson,
        )
        empty, none = np.zeros(0), np.zeros(0, dtype=np.intp)
        self._normal_index, self._normal_data, self._normal_sigma = none, none, empty
        self._poisson_index, self._poisson_data, self._poisson_factor = none, none, empty
        if normal.has_pdf():
            self._normal_index = np.array(normal.access_field, dtype=np.intp).reshape(-1)
            self._normal_data = np.array(normal.normal_data, dtype=np.intp).reshape(-1)
            self._normal_sigma = np.array(normal.sigmas, dtype=float).reshape(-1)
        if poisson.has_pdf():
            self._poisson_index = np.array(poisson.access_field, dtype=np.intp).reshape(-1)
            self._poisson_data = np.array(poisson.poisson_data, dtype=np.intp).reshape(-1)
            self._poisson_factor = np.array(poisson.batched_factors, dtype=float).reshape(-1)

    def _yields(self, point: Array) -> Array:
        self._counters.evaluations += 1
        self._counters.points += 1
        return np.asarray(self._model.main_model.expected_data(point), dtype=float)

    def _point(self, parameters: Sequence[float]) -> Array:
        return checked_point(parameters, len(self._names))

    def _bounds(self) -> tuple[Array, Array]:
        """Lower and upper; a fixed parameter has no room, the POI no upper bound, which would cut limits short."""
        lower = np.array([p.init if p.fixed else p.lower for p in self._parameters])
        upper = np.array([p.init if p.fixed else p.upper for p in self._parameters])
        upper[self._poi_index] = math.inf
        return lower, upper

    # ------------------------------------------------------------------------------------------- -2 ln L

    def _prepare(self, data: ArrayLike | None) -> _Data:
        if data is None:
            if hasattr(self, "_observed_terms"):
                return self._observed_terms
            data = self._observed
        main, aux = checked_data(data, self._n_bins, len(self._observed) - self._n_bins, self._poisson_data)
        poisson_aux, normal_aux = aux[self._poisson_data], aux[self._normal_data]
        constant = _saturated(main) + _saturated(poisson_aux)
        constant += 2.0 * float(np.sum(np.log(self._normal_sigma * math.sqrt(2.0 * math.pi))))
        return _Data(main=main, poisson_aux=poisson_aux, normal_aux=normal_aux, constant=constant)

    def _value(self, point: Array, data: _Data) -> float:
        return self._value_from(self._yields(point), point, data)

    def _value_from(self, yields: Array, point: Array, data: _Data) -> float:
        """-2 ln L less `data.constant`: zero where every term is at its own best."""
        rates = point[self._poisson_index] * self._poisson_factor
        pulls = (data.normal_aux - point[self._normal_index]) / self._normal_sigma
        value = _poisson_value(data.main, yields) + _poisson_value(data.poisson_aux, rates) + float(pulls @ pulls)
        return value if math.isfinite(value) else math.inf

    def _expand(self, point: Array, data: _Data) -> Expansion:
        plan = self._plan
        yields, first, second = plan.yields(point)
        value = self._value_from(yields, point, data)
        n = len(point)
        gradient, hessian = np.zeros(n), np.zeros((n, n))
        if not math.isfinite(value):
            return Expansion(value=value, gradient=gradient, hessian=hessian, safe_hessian=hessian)
        slope, curvature = _poisson_derivatives(data.main, yields)
        jacobian = plan.jacobian(first)
        gradient += jacobian @ slope
        safe = (jacobian * curvature) @ jacobian.T
        rates = point[self._poisson_index] * self._poisson_factor
        aux_slope, aux_curvature = _poisson_derivatives(data.poisson_aux, rates)
        np.add.at(gradient, self._poisson_index, aux_slope * self._poisson_factor)
        np.add.at(safe, (self._poisson_index, self._poisson_index), aux_curvature * self._poisson_factor**2)
        pulls = (point[self._normal_index] - data.normal_aux) / self._normal_sigma
        np.add.at(gradient, self._normal_index, 2.0 * pulls / self._normal_sigma)
        np.add.at(safe, (self._normal_index, self._normal_index), 2.0 / self._normal_sigma**2)
        gradient[plan.fixed] = 0.0
        safe[plan.fixed, :] = 0.0
        safe[:, plan.fixed] = 0.0
        hessian = safe + plan.curved_part(second, slope)
        return Expansion(value=value, gradient=gradient, hessian=hessian, safe_hessian=safe)

    # --------------------------------------------------------------------------------------------- the fit

    def _fit(
        self,
        data: ArrayLike | None,
        start: Sequence[float] | None,
        lower: Array,
        upper: Array,
        *,
        poi: float | None,
    ) -> FitResult:
        terms = self._prepare(data)
        before = self._counters.fits, self._counters.evaluations
        free = upper > lower
        with self._backend(), np.errstate(over="ignore", invalid="ignore"):  # a trial step may go too far
            point, expansion = self._minimum(terms, start, lower, upper, free)
            yields = self._yields(point)
        touching = free & ((point <= lower) | (point >= upper))
        negative = np.flatnonzero(yields < 0.0)
        return FitResult(
            parameter_names=self._names,
            bestfit=tuple(point.tolist()),
            twice_nll=expansion.value + terms.constant,
            poi_name=self.poi_name,
            poi_value=float(point[self._poi_index]),
            poi_fixed=poi is not None,
            poi_gradient=float(expansion.gradient[self._poi_index]),
            at_bounds=tuple(self._names[index] for index in np.flatnonzero(touching)),
            clipped_bins=tuple(self._bin_names[index] for index in negative),
            fits=self._counters.fits - before[0],
            evaluations=self._counters.evaluations - before[1],
        )

    def _minimum(
        self, data: _Data, start: Sequence[float] | None, lower: Array, upper: Array, free: NDArray[np.bool_]
    ) -> tuple[Array, Expansion]:
        """The retry ladder: Newton from several starts, then scipy's trust region from the same, then a named failure."""
        from modelbuilder.inference._scipy_minimise import rough_minimum

        index = np.flatnonzero(free)
        nominal = np.clip([parameter.init for parameter in self._parameters], lower, upper)
        starts = ([np.clip(self._point(start), lower, upper)] if start is not None else []) + [nominal]
        starts += [np.clip(other, lower, upper) for other in self._other_starts(nominal)]

        def place(x: Array) -> Array:
            point = nominal.copy()
            point[index] = x
            return point

        def value(x: Array) -> float:
            return self._value(place(x), data)

        expansions: dict[bytes, Expansion] = {}  # in all parameters, for the slope in a fixed POI

        def expand(x: Array) -> Expansion:
            full = expansions[x.tobytes()] = self._expand(place(x), data)
            return Expansion(
                value=full.value,
                gradient=full.gradient[index],
                hessian=full.hessian[np.ix_(index, index)],
                safe_hessian=full.safe_hessian[np.ix_(index, index)],
            )

        def newton(x: Array) -> Minimum:
            self._counters.fits += 1
            return minimise(
                expand,
                value,
                x,
                lower[index],
                upper[index],
                tolerance=TOLERANCE,
                loose_tolerance=LOOSE_TOLERANCE,
            )

        tried: list[Minimum] = []
        for first in starts:
            found = newton(first[index])
            if found.converged:
                return place(found.x), expansions[found.x.tobytes()]
            tried.append(found)
        finite = [found for found in tried if math.isfinite(found.expansion.value)]
        for rough in finite:
            self._counters.fits += 1
            found = newton(rough_minimum(expand, value, rough.x, lower[index], upper[index]))
            if found.converged:
                return place(found.x), expansions[found.x.tobytes()]
            tried.append(found)
        raise self._failure(tried, data, place, index)

    def _other_starts(self, nominal: Array) -> list[Array]:
        """A strong signal, a weak one, and all free yields scaled: where the nominal start makes the data impossible."""
        strong, weak, raised = nominal.copy(), nominal.copy(), nominal.copy()
        strong[self._poi_index] = max(10.0 * abs(nominal[self._poi_index]), 1.0)
        weak[self._poi_index] = 1e-3 * nominal[self._poi_index]
        for index, parameter in enumerate(self._parameters):
            if parameter.width is None and index != self._poi_index:
                raised[index] = max(3.0 * raised[index], 0.3)
        return [strong, weak, raised]

    def _failure(
        self, tried: list[Minimum], data: _Data, place: Callable[[Array], Array], free: NDArray[np.intp]
    ) -> FitFailure:
        best = min(tried, key=lambda found: found.expansion.value)
        point = place(best.x)
        at = f"{self.poi_name} = {point[self._poi_index]:.6g}"
        if not math.isfinite(best.expansion.value):
            with self._backend():
                yields = self._yields(point)
            impossible = np.flatnonzero((data.main > _EMPTY) & ~(yields > 0.0))
            where = ", ".join(
                f"{self._bin_names[index]} has {data.main[index]:.6g} events and expects {yields[index]:.6g}"
                for index in impossible[:3]
            )
            detail = f"the data are impossible at every start ({at}): {where or 'an auxiliary measurement is'}"
            return FitFailure("nll-not-finite", detail)
        name = self._names[free[int(np.argmax(np.abs(best.expansion.gradient)))]]
        detail = (
            f"no minimum from {len(tried)} starts; the best stopped at {at}, twice NLL"
            f" {best.expansion.value + data.constant:.8g}, with {best.decrease_left:.2g} still to gain, steepest along {name}"
        )
        return FitFailure("not-converged", detail)


class _DerivativePlan:
    """Which parameter points to ask pyhf for, and how to read first and second derivatives of the yields from them.

    Parameters that act on no common bin form one direction and are moved together. Pairs of directions whose mixed
    second derivative vanishes (most of them) are left out.
    """

    def __init__(self, likelihood: PyhfLikelihood) -> None:
        from modelbuilder.inference._pyhf_workspace import pyhf_model

        self._counters = likelihood.counters
        parameters = likelihood.parameters
        n, n_bins = len(parameters), likelihood._n_bins
        self.fixed = np.array([index for index, p in enumerate(parameters) if p.fixed], dtype=np.intp)
        free = [index for index, p in enumerate(parameters) if not p.fixed]
        model = likelihood.model
        # pyhf's largest intermediate array: one row per modifier, sample, point and bin
        row = (len(model.config.modifiers) + 1) * len(model.config.samples) * n_bins
        self._chunk = int(np.clip(_CHUNK_ELEMENTS // row, 4, 64))
        self._batched = pyhf_model(likelihood._checked, batch_size=self._chunk)
        self._main = self._batched.main_model

        nominal = np.array([p.init for p in parameters])
        generic = _generic_point(parameters)
        # one at a time: who acts where
        probe = np.array([_probe_step(p) for p in parameters])
        points = np.tile(generic, (len(free) + 1, 1))
        for row_index, index in enumerate(free):
            points[row_index + 1, index] += probe[index]
        yields = self._call(points)
        change = np.zeros((n, n_bins))
        change[free] = (yields[1:] - yields[0]) / probe[free, None]
        acts = change != 0.0
        groups = _disjoint_groups(free, acts)
        self._n_groups = len(groups)
        self._owner = np.full((len(groups), n_bins), -1, dtype=np.intp)
        for group_index, group in enumerate(groups):
            for index in group:
                self._owner[group_index, acts[index]] = index
        self._n_parameters = n
        self._n_bins = n_bins

        # steps: wide (a tenth of a standard deviation) where yields are linear, narrow elsewhere
        at_start = np.maximum(self._call(nominal[None, :])[0], 1.0)
        information = np.sum(change**2 / at_start, axis=1)
        information += np.array([0.0 if p.width is None else 1.0 / p.width**2 for p in parameters])
        sigma = np.divide(1.0, np.sqrt(information), out=np.ones(n), where=information > 0.0)
        wide = np.zeros((len(groups), n))
        for group_index, group in enumerate(groups):
            wide[group_index, group] = _LINEAR_STEP * np.where(sigma[group] > 0.0, sigma[group], 1.0)
        self._directions = wide
        self._pairs = [(i, j) for i in range(len(groups)) for j in range(i)]
        self._diagonal = np.ones(len(groups), dtype=bool)
        yields, _, second = self.yields(generic)
        noise = 1e-11 * (np.abs(yields) + 1e-6)
        curved = {
            (i, j): bool((np.abs(second[i, j] * self._step(i) * self._step(j)) > noise).any())
            for i in range(len(groups))
            for j in range(i + 1)
        }
        self._pairs = [(i, j) for i, j in self._pairs if curved[i, j]]
        self._diagonal = np.array([curved[i, i] for i in range(len(groups))], dtype=bool)
        for group_index in np.flatnonzero(self._diagonal):
            narrow = self._directions[group_index]
            self._directions[group_index] = np.where(narrow != 0.0, np.minimum(narrow, _SHAPE_STEP), 0.0)

    def _step(self, group: int) -> Array:
        """Step of the parameter that the group moves in each bin; 1 where it moves none; shape (n_bins,)."""
        owner = self._owner[group]
        return np.where(owner >= 0, self._directions[group, owner], 1.0)

    def yields(self, point: Array) -> tuple[Array, Array, Array]:
        """Yields, shape (n_bins,), and their first and second derivatives along the groups: (g, n_bins), (g, g, n_bins)."""
        groups, n = self._directions, self._n_groups
        moves = [np.zeros((1, len(point))), groups, -groups]
        if self._pairs:
            left, right = (np.array(side) for side in zip(*self._pairs, strict=True))
            moves.append(groups[left] + groups[right])
        values = self._call(point + np.concatenate(moves))
        centre, plus, minus, both = values[0], values[1 : n + 1], values[n + 1 : 2 * n + 1], values[2 * n + 1 :]
        steps = np.array([self._step(group) for group in range(n)]).reshape(n, self._n_bins)
        first = (plus - minus) / (2.0 * steps)
        second = np.zeros((n, n, self._n_bins))
        for group in np.flatnonzero(self._diagonal):
            second[group, group] = (plus[group] - 2.0 * centre + minus[group]) / steps[group] ** 2
        for (i, j), value in zip(self._pairs, both, strict=True):
            second[i, j] = second[j, i] = (value - plus[i] - plus[j] + centre) / (steps[i] * steps[j])
        return centre, first, second

    def jacobian(self, first: Array) -> Array:
        """Derivatives of the yields by parameter, shape (n_parameters, n_bins)."""
        result = np.zeros((self._n_parameters, self._n_bins))
        for owner, row in zip(self._owner, first, strict=True):
            bins = np.flatnonzero(owner >= 0)
            result[owner[bins], bins] = row[bins]
        return result

    def curved_part(self, second: Array, slope: Array) -> Array:
        """Sum over bins of slope times the second derivatives by parameter, shape (n_parameters, n_parameters)."""
        n = self._n_parameters
        result = np.zeros((n, n))
        pairs = self._pairs + [(int(group), int(group)) for group in np.flatnonzero(self._diagonal)]
        for i, j in pairs:
            bins = np.flatnonzero((self._owner[i] >= 0) & (self._owner[j] >= 0))
            weights = slope[bins] * second[i, j, bins]
            np.add.at(result, (self._owner[i, bins], self._owner[j, bins]), weights)
            if i != j:
                np.add.at(result, (self._owner[j, bins], self._owner[i, bins]), weights)
        return result

    def _call(self, points: Array) -> Array:
        """Expected yields of many points, in calls of `_chunk` points, the last one padded."""
        n = len(points)
        n_calls = -(-n // self._chunk)
        padded = np.concatenate([points, np.tile(points[-1], (n_calls * self._chunk - n, 1))])
        self._counters.evaluations += n_calls
        self._counters.points += n
        parts = [self._main.expected_data(part) for part in padded.reshape(n_calls, self._chunk, -1)]
        return np.asarray(np.concatenate(parts)[:n], dtype=float)


# ---------------------------------------------------------------------------------------------------- Poisson terms


def _poisson_value(counts: Array, rates: Array) -> float:
    """Twice the sum of rate - count + count ln(count/rate), exact for rates close to the counts."""
    some = counts > _EMPTY
    n, rate = counts[some], rates[some]
    if not (rate > 0.0).all():
        return math.inf
    ratio = (rate - n) / n
    logarithm = np.where(ratio > -0.5, np.log1p(np.maximum(ratio, -0.5)), np.log(rate / n))
    total = float(np.sum(n * (ratio - logarithm)))
    low = np.clip(rates[~some], -_CLIP_WIDTH, None)
    total += float(np.sum(np.where(low >= 0.0, low, low + 0.5 * low**2 / _CLIP_WIDTH)))
    return 2.0 * total


def _poisson_derivatives(counts: Array, rates: Array) -> tuple[Array, Array]:
    """First and second derivatives of `_poisson_value` by each rate; the second is never negative."""
    some = counts > _EMPTY
    safe_rate = np.where(some, rates, 1.0)
    low = np.clip(rates, -_CLIP_WIDTH, 0.0)
    slope = np.where(some, 1.0 - counts / safe_rate, 1.0 + low / _CLIP_WIDTH)
    clipped = (rates < 0.0) & (rates > -_CLIP_WIDTH)
    curvature = np.where(some, counts / safe_rate**2, np.where(clipped, 1.0 / _CLIP_WIDTH, 0.0))
    return 2.0 * slope, 2.0 * curvature


def _saturated(counts: Array) -> float:
    """-2 ln of the Poisson probability of the counts when each is its own expectation."""
    from scipy.special import gammaln, xlogy

    return 2.0 * float(np.sum(counts - xlogy(counts, counts) + gammaln(counts + 1.0)))


# ---------------------------------------------------------------------------------------------------- reading pyhf


def _parameters(model: Any) -> tuple[Parameter, ...]:
    config = model.config
    inits, bounds, fixed = config.suggested_init(), config.suggested_bounds(), config.suggested_fixed()
    names = config.par_names
    if not len(names) == len(inits) == len(bounds) == len(fixed):
        msg = (
            f"workspace: {len(names)} parameters, but {len(inits)} initial values, {len(bounds)} bounds and"
            f" {len(fixed)} fixed flags; the lists in the measurement's parameters have the wrong lengths"
        )
        raise WorkspaceError(msg)
    centres: dict[int, tuple[float, float]] = {}
    position = 0
    for name in config.auxdata_order:
        paramset, where = config.param_set(name), config.par_slice(name)
        aux = config.auxdata[position : position + paramset.n_parameters]
        position += paramset.n_parameters
        factors = paramset.factors if paramset.pdf_type == "poisson" else [1.0] * paramset.n_parameters
        for offset, (value, factor, width) in enumerate(zip(aux, factors, paramset.width(), strict=True)):
            centres[where.start + offset] = (float(value) / float(factor or 1.0), float(width))
    return tuple(
        Parameter(
            name=str(name),
            init=float(inits[index]),
            lower=float(bounds[index][0]),
            upper=float(bounds[index][1]),
            fixed=bool(fixed[index]),
            centre=centres[index][0] if index in centres else None,
            width=centres[index][1] if index in centres else None,
        )
        for index, name in enumerate(names)
    )


def _generic_point(parameters: tuple[Parameter, ...]) -> Array:
    """A point with nothing special about it: no zero, no integer, no two alike; the same every time."""
    shifts = 0.2 + 0.5 * np.random.default_rng(1007_1727).random(len(parameters))
    point = np.array([parameter.init for parameter in parameters])
    for index, parameter in enumerate(parameters):
        if not parameter.fixed:
            point[index] += shifts[index] * (0.3 * abs(point[index]) if point[index] else 1.0)
    return point


def _probe_step(parameter: Parameter) -> float:
    return 0.1 * (abs(parameter.init) if parameter.init else 1.0)


def _disjoint_groups(free: Sequence[int], acts: NDArray[np.bool_]) -> list[list[int]]:
    """Greedy: put each parameter into the first group that moves none of its bins. One that acts nowhere joins any."""
    groups: list[list[int]] = []
    taken: list[NDArray[np.bool_]] = []
    for index in free:
        for group, bins in zip(groups, taken, strict=True):
            if not (bins & acts[index]).any():
                group.append(index)
                bins |= acts[index]
                break
        else:
            groups.append([index])
            taken.append(acts[index].copy())
    return groups


def _frozen(values: Array) -> Array:
    values.setflags(write=False)
    return values
