"""Test statistics, p-values and limits from toys, where asymptotic formulas cannot be trusted.

A toy is a new set of counts and of auxiliary measurements, thrown from a hypothesis: the POI at the tested value (or 0),
the nuisance parameters at their best fit to the observed data at that value, as in pyhf. Counts, and the auxiliary data
of shapesys, are Poisson; those of staterror, normsys, histosys and lumi are normal. Each toy is fitted as the data were.

    q0         -2 ln L(0)/L(best)   where the best fit is above 0, else 0
    qmu        -2 ln L(mu)/L(best)  where the best fit is below mu, else 0; the best fit within the bounds of the model
    qmu_tilde  the same, the best fit at 0 or above
    tmu        -2 ln L(mu)/L(best)  wherever the best fit is; the best fit within the bounds of the model
    tmu_tilde  the same, the best fit at 0 or above                                             (arXiv:1007.1727)

Toy i of (seed, hypothesis) is one and the same, in whichever shard, order or thread; it moves little when mu does, so
that a p-value is as good as smooth in mu. A toy that cannot be fitted is counted, and bounds the p-value on either side.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.results import N_SIGMA, ONE_SIGMA, STATISTICS, LimitMethod, Statistic, check_limit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.inference.results import FitResult

    Array = NDArray[np.float64]

Hypothesis = Literal["signal", "background"]

MAX_FAILED = 0.05
"""A larger share of toys that cannot be fitted is a failure, `toys-failed`."""

_SHARD = 256  # toys that a thread takes at a time
_FIRST_TOYS = 1000
_TOLERANCE = 1e-5  # of -2 ln L before the last Newton step, which leaves some 1e-8
_TIE = 1e-6  # statistics that differ by less are equal, as those of equal data are, but for rounding
_MAX_STEPS = 25


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number from toys, and the central 68.3% interval of what infinitely many toys would give."""

    value: float
    lower: float
    upper: float


@dataclass(frozen=True, kw_only=True)
class PValue:
    """The share of toys at least as extreme as the data.

    n_above, n_failed: toys that are so, and toys that nobody knows of.    value: with the latter where they are the
    more cautious choice, see `ToyShard.p_value`.
    lower, upper: Clopper-Pearson interval, central 68.3%; lower as if no failed toy were extreme, upper as if all were.
    """

    value: float
    lower: float
    upper: float
    n_toys: int
    n_above: int
    n_failed: int

    @property
    def relative_precision(self) -> float:
        """Half of the interval over the value; infinite for 0."""
        return 0.5 * (self.upper - self.lower) / self.value if self.value > 0.0 else math.inf

    def at_confidence(self, confidence_level: float) -> tuple[float, float]:
        """The central interval at another confidence level."""
        return _clopper_pearson(self.n_above, self.n_failed, self.n_toys, confidence_level)


@dataclass(frozen=True, kw_only=True)
class ToyShard:
    """Test statistics of the toys `first`, `first + 1`, ... of one stream; shards of one stream can be merged.

    statistics: read-only; NaN for a toy that could not be fitted.    truth: parameters that the toys were thrown from.
    """

    statistic: Statistic
    poi: float
    truth: tuple[float, ...]
    seed: int
    hypothesis: Hypothesis
    first: int
    statistics: NDArray[np.float64] = field(repr=False, compare=False)

    @property
    def n_toys(self) -> int:
        return len(self.statistics)

    @property
    def n_failed(self) -> int:
        return int(np.count_nonzero(np.isnan(self.statistics)))

    def p_value(self, observed: float, *, failed_are_above: bool = True) -> PValue:
        """The share of toys whose statistic is at least `observed`; `failed_are_above` tells what `value` assumes."""
        return p_value_of(self.statistics, observed, failed_are_above=failed_are_above)


def merge_shards(shards: Sequence[ToyShard]) -> ToyShard:
    """One shard from several, in any order, that together have no gap and no toy twice."""
    ordered = sorted(shards, key=lambda shard: shard.first)
    if not ordered:
        msg = "shards: found none; at least one is needed"
        raise ValueError(msg)
    one = ordered[0]
    for before, after in itertools.pairwise(ordered):
        for name in ("statistic", "poi", "truth", "seed", "hypothesis"):
            if getattr(after, name) != getattr(one, name):
                msg = f"shards: found {name} {getattr(one, name)!r} and {getattr(after, name)!r}; they have to be equal"
                raise ValueError(msg)
        if after.first != before.first + before.n_toys:
            expected = before.first + before.n_toys
            msg = f"shards: found one from toy {after.first} on; after {before.first} it has to begin at {expected}"
            raise ValueError(msg)
    statistics = np.concatenate([shard.statistics for shard in ordered])
    return _shard(one, one.first, statistics)


@dataclass(frozen=True, kw_only=True)
class ToyTest:
    """One value of the POI, tested against the background-only hypothesis.

    cl_sb, cl_b: the share of toys with a signal, and without, at least as extreme as the data. cl_s: their ratio.
    expected_cl_sb, expected_cl_s: when the data are background only, fluctuated by -2, -1, 0, +1, +2 sigma.
    precision_reached: whether cl_s is known to the relative precision that was asked for.
    """

    poi_name: str
    poi: float
    statistic: Statistic
    observed: float
    cl_sb: PValue
    cl_b: PValue
    cl_s: Estimate
    expected_cl_sb: tuple[Estimate, ...]
    expected_cl_s: tuple[Estimate, ...]
    precision_reached: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ToyDiscovery:
    """Test of the background-only hypothesis with q0.

    significance: normal deviate of the p-value; where no toy is as extreme as the data, that of its upper edge, which
    the significance then exceeds (`warnings` says so).
    """

    poi_name: str
    q0: float
    p_value: PValue
    significance: Estimate
    precision_reached: bool
    warnings: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ToyLimit:
    """An upper limit on the POI, observed and expected from background only, from toys.

    expected: at -2, -1, 0, +1, +2 sigma.    n_toys: per hypothesis, at the value tested most thoroughly.
    tests: values of the POI that were tested.
    """

    poi_name: str
    statistic: Statistic
    method: LimitMethod
    confidence_level: float
    observed: Estimate
    expected: tuple[Estimate, ...]
    n_toys: int
    n_failed: int
    tests: int
    precision_reached: bool
    warnings: tuple[str, ...]


def toy_statistics(
    likelihood: CompiledLikelihood,
    truth: Sequence[float],
    *,
    statistic: Statistic,
    poi: float,
    seed: int,
    hypothesis: Hypothesis,
    n_toys: int,
    first: int = 0,
    n_threads: int = 1,
) -> ToyShard:
    """Test statistics at `poi` of toys thrown from the parameters `truth`.

    seed, hypothesis: name the stream of random numbers.    first: number of the first toy in it.
    """
    values = np.full(n_toys, math.nan)
    fits = _Stream(likelihood, truth, seed, hypothesis)
    fits.run(statistic, poi, first, values, np.full(n_toys, math.nan), np.full(n_toys, math.nan), n_threads, keep=False)
    values.setflags(write=False)
    return ToyShard(
        statistic=statistic,
        poi=poi,
        truth=tuple(float(value) for value in truth),
        seed=seed,
        hypothesis=hypothesis,
        first=first,
        statistics=values,
    )


def toy_data(
    likelihood: CompiledLikelihood,
    truth: Sequence[float],
    *,
    seed: int,
    hypothesis: Hypothesis,
    n_toys: int,
    first: int = 0,
) -> Array:
    """The data of the same toys, in pyhf order; shape (n_toys, n_data).

    Auxiliary data of a parameter that is bin-wise and fixed are not thrown: no fit depends on them.
    """
    return _Stream(likelihood, truth, seed, hypothesis).data(first, n_toys)


class ToyCalculator:
    """Answers questions about one likelihood and one set of data with toys; those of background only are kept.

    data: in pyhf order, auxiliary data included; None for the observed data.
    statistic: of tests and limits; `discovery` always uses q0.
    precision: relative, of a p-value; toys are thrown, twice as many each time, until it is reached or there are
    `max_toys` of each hypothesis, which results then say. n_toys: throw exactly as many instead.
    n_threads: changes no bit of any result.
    """

    def __init__(
        self,
        likelihood: CompiledLikelihood,
        data: ArrayLike | None = None,
        *,
        seed: int,
        statistic: Statistic = "qmu_tilde",
        precision: float = 0.05,
        max_toys: int = 200_000,
        n_toys: int | None = None,
        n_threads: int = 1,
    ) -> None:
        if statistic not in STATISTICS:
            msg = f"statistic: found {statistic!r}; known: {', '.join(STATISTICS)}"
            raise ValueError(msg)
        if not 0.0 < precision < 1.0:
            msg = f"precision: found {precision}; it is relative, above 0 and below 1, such as 0.05"
            raise ValueError(msg)
        for name, number in (("max_toys", max_toys), ("n_toys", n_toys), ("n_threads", n_threads)):
            if number is not None and number < 1:
                msg = f"{name}: found {number}; at least 1 is needed"
                raise ValueError(msg)
        self._likelihood = likelihood
        self._data = np.array(likelihood.observed_data if data is None else data, dtype=float)
        self._seed = seed
        self._statistic: Statistic = statistic
        self._precision = precision
        self._first_toys = min(_FIRST_TOYS, max_toys) if n_toys is None else n_toys
        self._max_toys = max_toys if n_toys is None else n_toys
        self._fixed_number = n_toys is not None
        self._n_threads = n_threads
        self._conditional: dict[float, FitResult] = {}
        self._free: dict[float, FitResult] = {}
        self._background: _Background | None = None
        self._tests: dict[tuple[float, float], ToyTest] = {}

    def observed(self, poi: float) -> float:
        """The test statistic of the data."""
        return self._observed(self._statistic, poi)

    def p_value(self, poi: float) -> PValue:
        """The share of toys with signal strength `poi` that are at least as extreme as the data."""
        self._check_poi(poi)
        return self._p_value(self._statistic, poi, "signal", self._precision)

    def test(self, poi: float) -> ToyTest:
        """CLs+b, CLb and CLs of one value of the POI; the precision is that of CLs."""
        self._check_poi(poi)
        return self._test(poi, 0.0)

    def discovery(self) -> ToyDiscovery:
        """The significance of an excess over the background-only hypothesis."""
        from scipy.special import ndtri

        q0 = self._observed("q0", 0.0)
        p = self._p_value("q0", 0.0, "background", self._precision)
        low, high = (-float(ndtri(edge)) for edge in (p.upper, p.lower))
        central = low if p.value == 0.0 else -float(ndtri(p.value))
        reached = self._fixed_number or p.relative_precision <= self._precision
        warnings = [] if reached else [self._imprecise("the p-value", p.n_toys)]
        if p.n_above == 0:
            warnings.append(
                f"none of {p.n_toys} toys is as extreme as the data: the significance is at least {low:.3g}"
            )
        return ToyDiscovery(
            poi_name=self._likelihood.poi_name,
            q0=q0,
            p_value=p,
            significance=Estimate(value=central, lower=low, upper=high),
            precision_reached=reached,
            warnings=(*warnings, *_failed_warning(p.n_failed, p.n_toys)),
        )

    def upper_limit(self, *, method: LimitMethod = "cls", confidence_level: float = 0.95) -> ToyLimit:
        """The observed and the expected upper limits on the POI.

        Found on CLs, or CLs+b, of the same toys at each value tried; the interval of a limit is that of the p-value
        there over its slope. The precision asked for is that of the p-values of the observed and the median limit.
        """
        check_limit(method, confidence_level)
        if self._statistic not in {"qmu", "qmu_tilde"}:
            msg = f"statistic: found {self._statistic!r}; upper limits need qmu or qmu_tilde"
            raise ValueError(msg)
        from modelbuilder.inference.compiled_limits import compiled_upper_limit

        alpha = 1.0 - confidence_level
        guess = compiled_upper_limit(self._likelihood, self._data, method="cls", confidence_level=confidence_level)
        guesses = (guess.observed, *guess.expected)
        tested: dict[float, ToyTest] = {}

        def curves(poi: float) -> list[Estimate]:
            if poi not in tested:
                tested[poi] = self._test(poi, alpha)
            test = tested[poi]
            if method == "cls":
                return [test.cl_s, *test.expected_cl_s]
            return [_estimate(test.cl_sb), *test.expected_cl_sb]

        for poi in guesses:
            curves(poi)
        limits = [_crossing(curves, index, tested, poi, alpha) for index, poi in enumerate(guesses)]
        warnings: list[str] = []
        near = [test for poi, test in tested.items() if abs(poi / max(limits[0].value, 1e-300) - 1.0) < 0.1]
        reached = all(test.precision_reached for test in near)
        most = max(tested.values(), key=lambda test: test.cl_sb.n_toys).cl_sb.n_toys
        if not reached:
            warnings.append(self._imprecise("CLs" if method == "cls" else "CLs+b", most))
        n_failed = sum(test.cl_sb.n_failed for test in tested.values())
        warnings += _failed_warning(n_failed, sum(test.cl_sb.n_toys for test in tested.values()))
        return ToyLimit(
            poi_name=self._likelihood.poi_name,
            statistic=self._statistic,
            method=method,
            confidence_level=confidence_level,
            observed=limits[0],
            expected=tuple(limits[1:]),
            n_toys=most,
            n_failed=n_failed,
            tests=len(tested),
            precision_reached=reached,
            warnings=tuple(warnings),
        )

    # -------------------------------------------------------------------------------------------------- inside

    def _check_poi(self, poi: float) -> None:
        if not (math.isfinite(poi) and poi >= 0.0):
            msg = f"poi: found {poi}; finite values of 0 and more can be tested"
            raise ValueError(msg)

    def _imprecise(self, what: str, n_toys: int) -> str:
        return f"{what} is not known to {self._precision:g} with {n_toys} toys, the most that were allowed"

    def _conditional_fit(self, poi: float) -> FitResult:
        if poi not in self._conditional:
            start = self._conditional[0.0].bestfit if 0.0 in self._conditional else None
            self._conditional[poi] = self._likelihood.fit_fixed_poi(poi, self._data, start=start)
        return self._conditional[poi]

    def _observed(self, statistic: Statistic, poi: float) -> float:
        fixed = self._conditional_fit(poi)
        side, lower = _side_and_lower(self._likelihood, statistic)
        free = self._free.get(lower)
        if free is None or free.twice_nll > fixed.twice_nll + _TIE:
            free = self._likelihood.fit(self._data, start=fixed.bestfit, poi_lower=lower)
            self._free[lower] = free
        if free.twice_nll > fixed.twice_nll + _TIE:
            detail = f"the fit of all parameters ends above the fit at {self._likelihood.poi_name} = {poi:.6g}"
            reason = "not-converged"
            raise FitFailure(reason, detail)
        if side * (free.poi_value - poi) > 0.0:
            return 0.0
        return max(fixed.twice_nll - free.twice_nll, 0.0)

    def _throw(self, statistic: Statistic, poi: float, hypothesis: Hypothesis, values: Array, n_toys: int) -> Array:
        """`values` and as many more as make `n_toys`."""
        new = np.full(n_toys - len(values), math.nan)
        if hypothesis == "background":
            if self._background is None:
                self._background = _Background(self._likelihood, self._conditional_fit(0.0).bestfit, self._seed)
            start = self._conditional_fit(poi).bestfit
            self._background.fill(statistic, poi, len(values), new, self._n_threads, start)
        else:
            stream = _Stream(self._likelihood, self._conditional_fit(poi).bestfit, self._seed, hypothesis)
            nothing = np.full(len(new), math.nan)
            stream.run(statistic, poi, len(values), new, nothing, nothing.copy(), self._n_threads, keep=False)
        grown: Array = np.concatenate([values, new])
        n_failed = int(np.count_nonzero(np.isnan(grown)))
        if n_failed > MAX_FAILED * len(grown):
            detail = f"{n_failed} of {len(grown)} toys at {self._likelihood.poi_name} = {poi:.6g} cannot be fitted"
            reason = "toys-failed"
            raise FitFailure(reason, detail)
        return grown

    def _p_value(self, statistic: Statistic, poi: float, hypothesis: Hypothesis, precision: float) -> PValue:
        observed = self._observed(statistic, poi)
        n_toys, values = self._first_toys, np.zeros(0)
        while True:
            values = self._throw(statistic, poi, hypothesis, values, n_toys)
            p = p_value_of(values, observed, failed_are_above=True)
            if p.relative_precision <= precision or n_toys >= self._max_toys:
                return p
            n_toys = min(2 * n_toys, self._max_toys)

    def _test(self, poi: float, floor: float) -> ToyTest:
        """floor: a CLs, observed or median, that is smaller needs no better precision than this one would."""
        if (poi, floor) in self._tests:
            return self._tests[poi, floor]
        statistic = self._statistic
        observed = self._observed(statistic, poi)
        n_toys, signal, background = self._first_toys, np.zeros(0), np.zeros(0)
        while True:
            signal = self._throw(statistic, poi, "signal", signal, n_toys)
            background = self._throw(statistic, poi, "background", background, n_toys)
            cl_sb = p_value_of(signal, observed, failed_are_above=True)
            cl_b = p_value_of(background, observed, failed_are_above=False)
            cl_s = _ratio(cl_sb, cl_b)
            expected = _expected(signal, background)
            asked = [cl_s] if floor == 0.0 else [cl_s, expected[2][1]]
            reached = all(_half(one) <= self._precision * max(one.value, floor) for one in asked)
            if reached or n_toys >= self._max_toys:
                break
            n_toys = min(2 * n_toys, self._max_toys)
        reached = reached or self._fixed_number
        warnings = [] if reached else [self._imprecise("CLs", n_toys)]
        warnings += _failed_warning(cl_sb.n_failed + cl_b.n_failed, 2 * n_toys)
        test = ToyTest(
            poi_name=self._likelihood.poi_name,
            poi=poi,
            statistic=statistic,
            observed=observed,
            cl_sb=cl_sb,
            cl_b=cl_b,
            cl_s=cl_s,
            expected_cl_sb=tuple(sb for sb, _ in expected),
            expected_cl_s=tuple(s for _, s in expected),
            precision_reached=reached,
            warnings=tuple(warnings),
        )
        self._tests[poi, floor] = test
        return test


# ------------------------------------------------------------------------------------------------------- throwing


class _Stream:
    """Toys of one truth and one stream of random numbers."""

    def __init__(
        self, likelihood: CompiledLikelihood, truth: Sequence[float], seed: int, hypothesis: Hypothesis
    ) -> None:
        from modelbuilder.kinematics.shards import stream_key

        flat = likelihood.flat
        point = np.array(truth, dtype=float)
        if point.shape != (len(flat.parameters),) or not np.isfinite(point).all():
            msg = f"truth: expected {len(flat.parameters)} finite numbers, in the order of parameter_names"
            raise ValueError(msg)
        initial = np.array([parameter.init for parameter in flat.parameters])
        strong = point.copy()
        strong[flat.poi_index] = max(10.0 * abs(point[flat.poi_index]), 1.0)
        self._likelihood = likelihood
        self._point = point
        self._starts = np.ascontiguousarray(np.array([point, initial, strong])[:, flat.globals_])
        self._key = np.array(stream_key(seed, f"toys/{hypothesis}"), dtype=np.uint64)

    def run(
        self,
        statistic: Statistic,
        poi: float,
        first: int,
        values: Array,
        free_values: Array,
        free_pois: Array,
        n_threads: int,
        *,
        keep: bool,
        start: Sequence[float] | None = None,
    ) -> None:
        """Fills `values`; with `keep` also the free fits where they are NaN, and uses those that are not.

        start: where to begin a fit with the POI at `poi`; by default at the truth.
        """
        from modelbuilder.inference._toys import toys_packed

        flat = self._likelihood.flat
        side, lower = _side_and_lower(self._likelihood, statistic)
        points = self._starts
        if start is not None:
            points = np.concatenate([np.array(start, dtype=float)[None, flat.globals_], points])
        starts = range(0, len(values), _SHARD)
        counters = np.zeros((len(starts), 2), dtype=np.int64)

        def shard(begin: int) -> None:
            end = min(begin + _SHARD, len(values))
            toys_packed(
                flat.integers,
                flat.floats,
                self._point[flat.globals_],
                self._point[flat.locals_],
                flat.global_data,
                flat.local_data,
                len(flat.bin_names) + len(flat.auxdata),
                self._key,
                first + begin,
                side,
                float(poi),
                lower,
                _TOLERANCE,
                points,
                keep,
                values[begin:end],
                free_values[begin:end],
                free_pois[begin:end],
                counters[begin // _SHARD],
            )

        if n_threads == 1 or len(starts) < 2:
            for begin in starts:
                shard(begin)
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                list(pool.map(shard, starts))
        fits, evaluations = (int(total) for total in counters.sum(axis=0))
        self._likelihood.counters.fits += fits
        self._likelihood.counters.evaluations += evaluations
        self._likelihood.counters.points += evaluations

    def data(self, first: int, n_toys: int) -> Array:
        from modelbuilder.inference._toys import throw_packed

        flat = self._likelihood.flat
        n_bins = len(flat.bin_names)
        counts = np.zeros((n_toys, n_bins))
        auxiliary, local_auxiliary = np.zeros((n_toys, len(flat.globals_))), np.zeros((n_toys, len(flat.locals_)))
        throw_packed(
            flat.integers,
            flat.floats,
            self._point[flat.globals_],
            self._point[flat.locals_],
            flat.global_data,
            flat.local_data,
            n_bins + len(flat.auxdata),
            self._key,
            first,
            counts,
            auxiliary,
            local_auxiliary,
        )
        data: Array = np.tile(np.concatenate([np.zeros(n_bins), flat.auxdata]), (n_toys, 1))
        data[:, :n_bins] = counts
        for where, values in ((flat.global_data, auxiliary), (flat.local_data, local_auxiliary)):
            measured = where >= 0
            data[:, n_bins + where[measured]] = values[:, measured]
        return data


class _Background:
    """Toys of background only: the same for every value that is tested, and so are their free fits."""

    def __init__(self, likelihood: CompiledLikelihood, truth: Sequence[float], seed: int) -> None:
        self._likelihood = likelihood
        self._stream = _Stream(likelihood, truth, seed, "background")
        self._free: dict[float, tuple[Array, Array]] = {}

    def fill(
        self, statistic: Statistic, poi: float, first: int, values: Array, n_threads: int, start: Sequence[float]
    ) -> None:
        _, lower = _side_and_lower(self._likelihood, statistic)
        last = first + len(values)
        free_values, free_pois = self._free.get(lower, (np.zeros(0), np.zeros(0)))
        if len(free_values) < last:
            more = np.full(last - len(free_values), math.nan)
            free_values, free_pois = np.concatenate([free_values, more]), np.concatenate([free_pois, more])
            self._free[lower] = free_values, free_pois
        self._stream.run(
            statistic,
            poi,
            first,
            values,
            free_values[first:last],
            free_pois[first:last],
            n_threads,
            keep=True,
            start=start,
        )


def _side_and_lower(likelihood: CompiledLikelihood, statistic: Statistic) -> tuple[int, float]:
    """As `_toys` has it: which side of mu is agreement (1 above, -1 below, 0 neither); lower bound of the best fit."""
    own = min(likelihood.parameters[likelihood.poi_index].lower, 0.0)
    side = {"q0": -1, "qmu": 1, "qmu_tilde": 1, "tmu": 0, "tmu_tilde": 0}[statistic]
    return side, 0.0 if statistic in {"qmu_tilde", "tmu_tilde"} else own


def _shard(like: ToyShard, first: int, statistics: Array) -> ToyShard:
    statistics.setflags(write=False)
    return ToyShard(
        statistic=like.statistic,
        poi=like.poi,
        truth=like.truth,
        seed=like.seed,
        hypothesis=like.hypothesis,
        first=first,
        statistics=statistics,
    )


# ------------------------------------------------------------------------------------------------------- counting


def _clopper_pearson(n_above: int, n_failed: int, n_toys: int, confidence_level: float) -> tuple[float, float]:
    from scipy.special import betaincinv

    tail = 0.5 * (1.0 - confidence_level)
    most = n_above + n_failed
    lower = float(betaincinv(n_above, n_toys - n_above + 1, tail)) if n_above > 0 else 0.0
    upper = float(betaincinv(most + 1, n_toys - most, 1.0 - tail)) if most < n_toys else 1.0
    return lower, upper


def _counted(n_above: int, n_failed: int, n_toys: int, *, failed_are_above: bool) -> PValue:
    lower, upper = _clopper_pearson(n_above, n_failed, n_toys, ONE_SIGMA)
    value = (n_above + (n_failed if failed_are_above else 0)) / n_toys
    return PValue(value=value, lower=lower, upper=upper, n_toys=n_toys, n_above=n_above, n_failed=n_failed)


def p_value_of(statistics: Array, observed: float, *, failed_are_above: bool) -> PValue:
    """As `ToyShard.p_value`; NaN is a toy that could not be fitted."""
    n_failed = int(np.count_nonzero(np.isnan(statistics)))
    n_above = int(np.count_nonzero(statistics >= _with_ties(observed)))  # a NaN is not
    return _counted(n_above, n_failed, len(statistics), failed_are_above=failed_are_above)


def _with_ties(observed: float) -> float:
    return observed - _TIE * (1.0 + observed)


def _estimate(p: PValue) -> Estimate:
    return Estimate(value=p.value, lower=p.lower, upper=p.upper)


def _half(estimate: Estimate) -> float:
    return 0.5 * (estimate.upper - estimate.lower)


def _ratio(top: PValue, bottom: PValue) -> Estimate:
    """Quotient of independent p-values, errors in quadrature side by side; 1 where both are 0."""
    if bottom.value == 0.0:
        # every fluctuation of the background is less extreme: nothing can be excluded
        return Estimate(value=1.0, lower=min(top.lower / bottom.upper, 1.0), upper=1.0)
    value = top.value / bottom.value
    up = math.hypot((top.upper - top.value) / bottom.value, top.value / max(bottom.lower, 1e-300) - value)
    down = math.hypot((top.value - top.lower) / bottom.value, value - top.value / bottom.upper)
    return Estimate(value=value, lower=max(value - down, 0.0), upper=max(min(value + up, 1.0), value))


def _expected(signal: Array, background: Array) -> list[tuple[Estimate, Estimate]]:
    """CLs+b and CLs at the five fluctuations of the background."""
    from scipy.special import ndtr

    n = len(background)
    n_failed = int(np.count_nonzero(np.isnan(background)))
    ordered = np.sort(background[~np.isnan(background)])[::-1]
    reversed_signal = np.sort(signal[~np.isnan(signal)])
    failed_signal = len(signal) - len(reversed_signal)

    def at(rank: float) -> tuple[PValue, PValue]:
        """Both p-values at the toy of this rank, the most extreme being the first."""
        q = float(ordered[min(max(math.ceil(rank) - 1, 0), len(ordered) - 1)])
        threshold = _with_ties(q)
        above = len(reversed_signal) - int(np.searchsorted(reversed_signal, threshold))
        above_b = int(np.count_nonzero(ordered >= threshold))
        return (
            _counted(above, failed_signal, len(signal), failed_are_above=True),
            _counted(above_b, n_failed, n, failed_are_above=False),
        )

    found = []
    for n_sigma in N_SIGMA:
        share = float(ndtr(n_sigma))
        spread = math.sqrt(n * share * (1.0 - share))
        sb, b = at(share * n)
        few_sb, few_b = at(share * n - spread - n_failed)
        many_sb, many_b = at(share * n + spread + n_failed)
        found.append(
            (
                _widened(_estimate(sb), few_sb.value, many_sb.value),
                _widened(_ratio(sb, b), _ratio(few_sb, few_b).value, _ratio(many_sb, many_b).value),
            )
        )
    return found


def _widened(estimate: Estimate, lower: float, upper: float) -> Estimate:
    down = math.hypot(estimate.value - estimate.lower, max(estimate.value - lower, 0.0))
    up = math.hypot(estimate.upper - estimate.value, max(upper - estimate.value, 0.0))
    upper = max(min(estimate.value + up, 1.0), estimate.value)
    return Estimate(value=estimate.value, lower=max(estimate.value - down, 0.0), upper=upper)


def _failed_warning(n_failed: int, n_toys: int) -> list[str]:
    return [f"{n_failed} of {n_toys} toys could not be fitted; they widen the intervals"] if n_failed else []


# ------------------------------------------------------------------------------------------------------ searching


def _crossing(
    curves: Callable[[float], list[Estimate]], index: int, tested: dict[float, ToyTest], guess: float, alpha: float
) -> Estimate:
    """Where the falling p-value `index` crosses alpha; 0 where it is below it everywhere."""

    def curve(poi: float) -> Estimate:
        return curves(poi)[index]

    def height(poi: float) -> float:
        value = curve(poi).value
        return math.log(value / alpha) if value > 0.0 else -math.inf

    smallest = 1e-3 * guess
    poi = guess
    for _ in range(_MAX_STEPS):
        y, p = height(poi), curve(poi)
        low = max((other for other in tested if height(other) > 0.0), default=0.0)
        high = min((other for other in tested if other > low and height(other) <= 0.0), default=math.inf)
        if high <= smallest:
            return Estimate(value=0.0, lower=0.0, upper=high)
        if high == math.inf:
            poi = 1.5 * low
            continue
        if low == 0.0:
            poi = 0.5 * high
            continue
        near = 0.25 * min(p.upper - p.value, p.value - p.lower) / max(p.value, 1e-300)
        if abs(y) <= max(near, 1e-9) or high - low < 1e-3 * high:
            return _solved(curve, tested, poi, alpha, height)
        top, bottom = height(low), height(high)
        share = top / (top - bottom) if bottom > -math.inf else 0.5
        poi = low + min(max(share, 0.1), 0.9) * (high - low)
        if poi in tested:
            return _solved(curve, tested, poi, alpha, height)
    detail = f"not found in {_MAX_STEPS} steps from {guess:.6g} on; toys may be too few for CLb"
    reason = "limit-not-found"
    raise FitFailure(reason, detail)


def _solved(
    curve: Callable[[float], Estimate],
    tested: dict[float, ToyTest],
    poi: float,
    alpha: float,
    height: Callable[[float], float],
) -> Estimate:
    """The crossing, on a straight line through points so far on either side that toys do not make its slope."""
    highest = math.inf
    if height(poi) == -math.inf:  # too few toys to see anything here: the crossing is below
        highest = poi
        poi = max((other for other in tested if other < poi and height(other) > -math.inf), default=poi)
    y, p = height(poi), curve(poi)
    if y == -math.inf:
        reason, detail = "limit-not-found", f"no toy is as extreme as the data at {poi:.6g}; more toys are needed"
        raise FitFailure(reason, detail)
    apart = max(1.5 * (p.upper - p.lower) / p.value, 0.2)
    slope = 0.0
    for factor in (1.0, 1.6, 2.5):  # few toys: the p-value may rise by chance, but not over a long way
        for other in (poi / factor, poi * factor) if factor > 1.0 else ():
            curve(other)
        others = [other for other in tested if height(other) > -math.inf]
        first = max((o for o in others if o < poi and height(o) > y + apart), default=min(others))
        last = min((o for o in others if o > poi and height(o) < y - apart), default=max(others))
        slope = (height(last) - height(first)) / (last - first) if last > first else 0.0
        if slope < 0.0:
            break
    if not slope < 0.0:
        reason, detail = "limit-not-found", f"the p-value does not fall at {poi:.6g}; more toys are needed"
        raise FitFailure(reason, detail)

    def at(value: float) -> float:
        return max(poi - math.log(value / alpha) / slope, 0.0)

    value = min(max(poi - y / slope, 0.0), highest)
    lower = at(p.lower) if p.lower > 0.0 else 0.0
    return Estimate(value=value, lower=min(lower, value), upper=max(at(p.upper), value))
