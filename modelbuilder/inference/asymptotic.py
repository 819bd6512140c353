"""Limits and significances from the asymptotic formulas of G. Cowan et al., arXiv:1007.1727.

Everything rests on two profiles, each a few fits: qmu_tilde(mu) of the data, and the same of the Asimov data of the
background-only hypothesis, whose nuisance parameters are the best fit to the data at mu = 0 (as in pyhf). The square
root of the second is what the expected bands invert, at targets that have a closed form:

    CLs:                 N + z(1 - alpha Phi(N))        since CLs at N sigma is Phi(N - sqrt(qA)) / Phi(N)
    profile likelihood:  N + z(1 - alpha)               since CLs+b at N sigma is Phi(N - sqrt(qA))

with alpha = 1 - confidence level and z the normal quantile. Where the second target is not positive every mu > 0 is
excluded, and the limit is 0. Nothing is scanned, and no range of mu is assumed.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.results import (
    N_SIGMA,
    STATISTICS,
    AsymptoticTest,
    Discovery,
    HypothesisTest,
    LimitMethod,
    Statistic,
    UpperLimit,
    check_limit,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.likelihood import Likelihood
    from modelbuilder.inference.results import FitResult

FEW_EVENTS = 5.0
"""Below this many effective background events the asymptotic formulas are called doubtful (see `UpperLimit`)."""

_LAST_STEP = 2e-5  # relative; Newton steps smaller than this are taken without a further fit: the error is its square
_MAX_STEPS = 60
_MAX_FACTOR = 30.0  # by which mu may change in one step while it is not yet bracketed
_LARGEST = 1e30  # in units of the first guess; a profile that is still flat there is flat
_SMALL_ROOT_QA = 2e-3  # mu/sigma: below it the test statistics are as good as straight lines


@dataclass(frozen=True, kw_only=True)
class _Point:
    """Both test statistics at one mu, and their derivatives by mu."""

    mu: float
    q: float
    q_slope: float
    qa: float
    qa_slope: float


class AsymptoticCalculator:
    """Answers any number of questions about one likelihood and one set of data; fits are kept and shared.

    qmu_tilde assumes mu >= 0: a best fit below zero, where the model allows one, is replaced by that at mu = 0.
    data: in pyhf order, auxiliary data included; None for the observed data.
    """

    def __init__(self, likelihood: Likelihood, data: ArrayLike | None = None) -> None:
        self._likelihood = likelihood
        self._data: NDArray[np.float64] = np.array(likelihood.observed_data if data is None else data, dtype=float)
        self._null: FitResult | None = None
        self._free: FitResult | None = None
        self._asimov: NDArray[np.float64] | None = None
        self._asimov_best = math.nan
        self._expected: dict[float, float] = {}  # mu by sqrt(qA)
        self._observed: dict[tuple[LimitMethod, float], float] = {}
        self._data_fits = _FitsByPoi()
        self._asimov_fits = _FitsByPoi()

    def upper_limit(self, *, method: LimitMethod = "cls", confidence_level: float = 0.95) -> UpperLimit:
        """The observed and the expected upper limit on the POI.

        confidence_level: above 0.5 and below 1; 0.95 excludes mu where CLs, or CLs+b, is below 0.05.
        """
        check_limit(method, confidence_level)
        before = self._work()
        alpha = 1.0 - confidence_level
        self._require_signal()
        targets = [expected_target(method, alpha, n_sigma) for n_sigma in N_SIGMA]
        median = self._mu_at_root_qa(targets[2])
        m2, m1, p1, p2 = (self._mu_at_root_qa(targets[index]) for index in (0, 1, 3, 4))
        if (method, alpha) not in self._observed:
            self._observed[method, alpha] = self._observed_limit(method, alpha)
        poi_hat = self._free_fit().poi_value
        events = self._effective_background(median)
        warnings = warnings_for(events)
        after = self._work()
        return UpperLimit(
            poi_name=self._likelihood.poi_name,
            method=method,
            confidence_level=confidence_level,
            observed=self._observed[method, alpha],
            expected=(m2, m1, median, p1, p2),
            poi_hat=poi_hat,
            q0=self._q0(),
            effective_background_events=events,
            asymptotics_doubtful=bool(warnings),
            warnings=warnings,
            fits=after[0] - before[0],
            evaluations=after[1] - before[1],
        )

    def discovery(self) -> Discovery:
        """The significance of an excess over the background-only hypothesis."""
        before = self._work()
        q0, poi_hat = self._q0(), self._free_fit().poi_value
        after = self._work()
        return discovery_from(
            self._likelihood.poi_name, q0, poi_hat, fits=after[0] - before[0], evaluations=after[1] - before[1]
        )

    def _q0(self) -> float:
        null, free = self._null_fit(), self._free_fit()
        return max(null.twice_nll - free.twice_nll, 0.0) if free.poi_value > 0.0 else 0.0

    def test(self, poi: float, statistic: Statistic) -> AsymptoticTest:
        """The p-value of one value of the POI by any test statistic; q0 tests 0.

        qmu and tmu compare with the best fit within the bounds of the model, qmu_tilde and tmu_tilde with that at 0 or
        above. Their distributions: arXiv:1007.1727, section 3, with sigma from the Asimov data.
        """
        from scipy.special import ndtr

        if statistic not in STATISTICS:
            msg = f"statistic: found {statistic!r}; known: {', '.join(STATISTICS)}"
            raise ValueError(msg)
        if not (math.isfinite(poi) and poi >= 0.0) or (statistic == "q0" and poi != 0.0):
            msg = f"poi: found {poi}; {statistic} tests {'0' if statistic == 'q0' else 'finite values of 0 and more'}"
            raise ValueError(msg)
        if statistic == "q0":
            found = self.discovery()
            value, p_value = found.q0, found.p_value
        elif statistic == "qmu_tilde":
            point = self._point(poi)
            value, p_value = point.q, float(ndtr(-_deviates(point)[0]))
        else:
            fixed = self._fixed_fit(poi)
            best = self._best() if statistic == "tmu_tilde" else self._free_fit()
            value = max(fixed.twice_nll - best.twice_nll, 0.0)
            if statistic == "qmu" and best.poi_value > poi:
                value = 0.0
            root = math.sqrt(value)
            p_value = float(ndtr(-root))  # of qmu, and of one side of tmu
            if statistic == "tmu":
                p_value *= 2.0
            if statistic == "tmu_tilde":
                qa, _ = self._asimov_q(poi)
                if value <= qa:
                    p_value *= 2.0
                elif qa > 0.0:  # the best fit on the other side would be below 0, and is at 0
                    p_value += float(ndtr(-(value + qa) / (2.0 * math.sqrt(qa))))
        return AsymptoticTest(
            poi_name=self._likelihood.poi_name, poi=poi, statistic=statistic, value=value, p_value=p_value
        )

    def hypothesis_test(self, poi: float) -> HypothesisTest:
        """Test one value of the POI, 0 or more."""
        from scipy.special import ndtr

        if not (math.isfinite(poi) and poi >= 0.0):
            msg = f"poi: found {poi}; qmu_tilde tests finite values of 0 and more"
            raise ValueError(msg)
        point = self._point(poi)
        sb, b = _deviates(point)
        root = math.sqrt(point.qa)
        cl_sb, cl_b = float(ndtr(-sb)), float(ndtr(-b))
        m2, m1, median, p1, p2 = (float(ndtr(n_sigma - root)) for n_sigma in N_SIGMA)
        expected = (m2, m1, median, p1, p2)
        s2, s1, s_median, s_p1, s_p2 = (
            value / float(ndtr(n_sigma)) for value, n_sigma in zip(expected, N_SIGMA, strict=True)
        )
        return HypothesisTest(
            poi_name=self._likelihood.poi_name,
            poi=poi,
            qmu_tilde=point.q,
            qmu_tilde_asimov=point.qa,
            cl_sb=cl_sb,
            cl_b=cl_b,
            cl_s=math.exp(_log_cls(sb, b)),
            expected_cl_sb=expected,
            expected_cl_s=(s2, s1, s_median, s_p1, s_p2),
        )

    # ------------------------------------------------------------------------------------------------------- fits

    def _work(self) -> tuple[int, int]:
        return self._likelihood.counters.fits, self._likelihood.counters.evaluations

    def _null_fit(self) -> FitResult:
        if self._null is None:
            self._null = self._likelihood.fit_fixed_poi(0.0, self._data)
            self._data_fits.add(0.0, self._null)
        return self._null

    def _free_fit(self) -> FitResult:
        """The fit with free POI; its POI may be negative where the model allows it."""
        if self._free is None:
            null = self._null_fit()
            lower = min(self._likelihood.parameters[self._likelihood.poi_index].lower, 0.0)
            self._free = self._likelihood.fit(self._data, start=null.bestfit, poi_lower=lower)
        return self._free

    def _best(self) -> FitResult:
        """The denominator of qmu_tilde: the best fit with mu >= 0."""
        free, null = self._free_fit(), self._null_fit()
        return free if free.poi_value >= 0.0 and free.twice_nll <= null.twice_nll else null

    def _asimov_data(self) -> NDArray[np.float64]:
        if self._asimov is None:
            null = self._null_fit()
            self._asimov = self._likelihood.asimov_data(null.bestfit)
            self._asimov_best = self._likelihood.twice_nll(null.bestfit, self._asimov)
            self._asimov_fits.add(0.0, null)
        return self._asimov

    def _asimov_q(self, mu: float) -> tuple[float, float]:
        """qmu_tilde of the Asimov data, and its slope. The best fit to them is known: it is where they come from."""
        data = self._asimov_data()
        if mu == 0.0:
            return 0.0, 0.0
        fit = self._asimov_fits.get(mu)
        if fit is None:
            fit = self._likelihood.fit_fixed_poi(mu, data, start=self._asimov_fits.start(mu))
            self._asimov_fits.add(mu, fit)
        return max(fit.twice_nll - self._asimov_best, 0.0), fit.poi_gradient

    def _fixed_fit(self, mu: float) -> FitResult:
        """The fit to the data at mu. If it is below the best fit, that was in a lesser minimum, and is made again."""
        fit = self._data_fits.get(mu)
        if fit is None:
            fit = self._likelihood.fit_fixed_poi(mu, self._data, start=self._data_fits.start(mu, self._best()))
            self._data_fits.add(mu, fit)
        if fit.twice_nll < self._best().twice_nll - 1e-6:
            lower = min(self._likelihood.parameters[self._likelihood.poi_index].lower, 0.0)
            again = self._likelihood.fit(self._data, start=fit.bestfit, poi_lower=lower)
            if again.twice_nll > fit.twice_nll + 1e-6:
                reason, detail = (
                    "not-converged",
                    f"the free fit ends above the fit at {self._likelihood.poi_name} = {mu:.6g}",
                )
                raise FitFailure(reason, detail)
            self._free = again
            self._observed.clear()
        return fit

    def _data_q(self, mu: float) -> tuple[float, float]:
        """qmu_tilde of the data, and its slope."""
        if mu <= self._best().poi_value:
            return 0.0, 0.0
        fit = self._fixed_fit(mu)
        best = self._best()  # which that may have changed
        if mu <= best.poi_value:
            return 0.0, 0.0
        return max(fit.twice_nll - best.twice_nll, 0.0), fit.poi_gradient

    def _point(self, mu: float) -> _Point:
        qa, qa_slope = self._asimov_q(mu)
        q, q_slope = self._data_q(mu)
        return _Point(mu=mu, q=q, q_slope=q_slope, qa=qa, qa_slope=qa_slope)

    # ------------------------------------------------------------------------------------------------------ limits

    def _require_signal(self) -> None:
        """A POI that changes no expected yield has no limit; say so before any fit does something strange with it."""
        likelihood = self._likelihood
        point = [parameter.init for parameter in likelihood.parameters]
        yields = []
        for mu in (0.0, 1.0, 1e6):
            point[likelihood.poi_index] = mu
            yields.append(likelihood.expected_yields(point))
        if all(np.array_equal(yields[0], other) for other in yields[1:]):
            reason, detail = (
                "no-signal",
                f"{likelihood.poi_name} changes no expected yield in any bin: there is no limit on it",
            )
            raise FitFailure(reason, detail)

    def _first_guess(self) -> float:
        """About one standard deviation of the POI, from the likelihood's own curvature at mu = 0."""
        likelihood, null = self._likelihood, self._null_fit()
        hessian = likelihood.derivatives(null.bestfit, self._asimov_data()).hessian
        information = float(hessian[likelihood.poi_index, likelihood.poi_index]) / 2.0
        if math.isfinite(information) and information > 0.0:
            return 1.0 / math.sqrt(information)
        # no curvature at zero (a bin without background): the mu that adds one event, or what the model starts from
        point = list(null.bestfit)
        point[likelihood.poi_index] = 1.0
        added = float(np.sum(np.abs(likelihood.expected_yields(point) - likelihood.expected_yields(null.bestfit))))
        return 1.0 / added if added > 0.0 else 1.0

    def _mu_at_root_qa(self, target: float) -> float:
        """The mu at which sqrt(qA) is `target`; 0 where that is not positive."""
        if target <= 0.0:
            return 0.0
        if target in self._expected:
            return self._expected[target]
        known = sorted(
            (math.sqrt(qa), mu, math.sqrt(qa) / (0.5 * slope / math.sqrt(qa) * mu))
            for mu, (qa, slope) in ((mu, self._asimov_q(mu)) for mu in self._asimov_fits.values())
            if mu > 0.0 and qa > 0.0 and slope > 0.0
        )
        guess = _interpolated(known, target) if known else self._first_guess() * target

        def distance(mu: float) -> tuple[float, float]:
            qa, slope = self._asimov_q(mu)
            if qa <= 0.0:
                return -math.inf, 0.0
            return 0.5 * math.log(qa) - math.log(target), 0.5 * slope / qa

        self._expected[target] = self._root(distance, guess, 0.0, "the expected limit")
        return self._expected[target]

    def _observed_limit(self, method: LimitMethod, alpha: float) -> float:
        from scipy.special import ndtri

        best = max(self._best().poi_value, 0.0)
        sigma = self._mu_at_root_qa(1.0)
        quantile = -float(ndtri(alpha))
        if method == "profile-likelihood":
            if best == 0.0 and (limit := self._limit_near_zero(quantile, sigma)) is not None:
                return limit
            guess = best + quantile * sigma

            def distance(mu: float) -> tuple[float, float]:
                point = self._point(mu)
                (sb, _), (sb_slope, _) = _deviates(point), _deviate_slopes(point)
                return sb - quantile, sb_slope
        else:
            guess = sigma * expected_target("cls", alpha, best / sigma)

            def distance(mu: float) -> tuple[float, float]:
                point = self._point(mu)
                (sb, b), (sb_slope, b_slope) = _deviates(point), _deviate_slopes(point)
                return math.log(alpha) - _log_cls(sb, b), _hazard(sb) * sb_slope - _hazard(b) * b_slope

        return self._root(distance, guess, best, "the observed limit")

    def _limit_near_zero(self, quantile: float, sigma: float) -> float | None:
        """The limit without CLs where it is a small fraction of sigma, or 0; None where it is not.

        For a best fit at zero, q = g mu + ..., qA = (mu/sigma)^2 + ..., and the deviate of CLs+b starts at g sigma/2.
        """
        mu = _SMALL_ROOT_QA * sigma
        point = self._point(mu)
        sb, _ = _deviates(point)
        if sb < quantile:
            return None
        slope, _ = _deviate_slopes(point)
        return max(mu - (sb - quantile) / slope, 0.0) if slope > 0.0 else 0.0

    def _effective_background(self, mu: float) -> float:
        """(sum s)^2 / sum(s^2/b); 0 where a bin with signal has no background."""
        null = self._null_fit()
        background = self._likelihood.expected_yields(null.bestfit)
        point = list(null.bestfit)
        point[self._likelihood.poi_index] = mu if mu > 0.0 else 1.0
        signal = np.abs(self._likelihood.expected_yields(point) - background)
        some = signal > 1e-9 * float(np.sum(signal))
        if not some.any() or not (background[some] > 0.0).all():
            return 0.0
        return float(np.sum(signal[some])) ** 2 / float(np.sum(signal[some] ** 2 / background[some]))

    def _root(self, distance: Callable[[float], tuple[float, float]], guess: float, lowest: float, what: str) -> float:
        """The mu > lowest where `distance` (value, slope by mu), increasing, is zero: Newton in ln mu, safeguarded."""
        low, high = lowest, math.inf
        mu = guess if guess > lowest else max(2.0 * lowest, guess, 1e-300)
        first = mu
        for _ in range(_MAX_STEPS):
            value, slope = distance(mu)
            if value == 0.0:
                return mu
            low, high = (mu, high) if value < 0.0 else (low, mu)
            step = -value / (slope * mu) if slope > 0.0 and math.isfinite(value) else math.copysign(math.inf, -value)
            if abs(step) < _LAST_STEP:
                return mu * math.exp(step)
            if high < math.inf and high - low <= 1e-12 * high:
                return mu
            bound = math.log(_MAX_FACTOR)
            new = mu * math.exp(min(max(step, -bound), bound))
            if not low < new < high:
                if high < math.inf:
                    new = math.sqrt(low * high) if low > 0.0 else 0.1 * high
                    if low > 0.0 and high < 1.5 * low:
                        new = 0.5 * (low + high)
                else:
                    new = mu * _MAX_FACTOR
            mu = new
            if mu > _LARGEST * first or mu < first / _LARGEST:
                break
        poi = self._likelihood.poi_name
        if high == math.inf:
            detail = f"{what}: the likelihood is still flat at {poi} = {low:.3g}; no signal strength is excluded"
            reason = "flat-likelihood"
        else:
            detail = f"{what}: not found between {poi} = {low:.6g} and {high:.6g} in {_MAX_STEPS} steps"
            reason = "limit-not-found"
        raise FitFailure(reason, detail)


def upper_limit(
    likelihood: Likelihood,
    data: ArrayLike | None = None,
    *,
    method: LimitMethod,
    confidence_level: float = 0.95,
) -> UpperLimit:
    """One upper limit; for several questions about the same data, keep an `AsymptoticCalculator`."""
    return AsymptoticCalculator(likelihood, data).upper_limit(method=method, confidence_level=confidence_level)


def discovery(likelihood: Likelihood, data: ArrayLike | None = None) -> Discovery:
    """The significance of an excess; for several questions about the same data, keep an `AsymptoticCalculator`."""
    return AsymptoticCalculator(likelihood, data).discovery()


class _FitsByPoi:
    """Conditional fits in the order of their POI; offers starting points for new ones."""

    def __init__(self) -> None:
        self._values: list[float] = []
        self._fits: dict[float, FitResult] = {}

    def add(self, poi: float, fit: FitResult) -> None:
        if poi not in self._fits:
            bisect.insort(self._values, poi)
        self._fits[poi] = fit

    def get(self, poi: float) -> FitResult | None:
        return self._fits.get(poi)

    def values(self) -> tuple[float, ...]:
        return tuple(self._values)

    def start(self, poi: float, best: FitResult | None = None) -> tuple[float, ...] | None:
        """Best-fit parameters on the straight line between the fits on either side, or of the nearest one.

        best: the free fit, where that is to be used as well.
        """
        known = [(value, self._fits[value].bestfit) for value in self._values]
        if best is not None:
            known.append((best.poi_value, best.bestfit))
            known.sort()
        if not known:
            return None
        above = next((index for index, (value, _) in enumerate(known) if value >= poi), len(known))
        if above == 0:
            return known[0][1]
        if above == len(known):
            return known[-1][1]
        (left, first), (right, last) = known[above - 1], known[above]
        part = (poi - left) / (right - left) if right > left else 0.0
        return tuple(a + part * (b - a) for a, b in zip(first, last, strict=True))


def discovery_from(poi_name: str, q0: float, poi_hat: float, *, fits: int, evaluations: int) -> Discovery:
    """The test of background only by its test statistic."""
    from scipy.special import ndtr

    significance = math.sqrt(q0)
    return Discovery(
        poi_name=poi_name,
        q0=q0,
        p_value=float(ndtr(-significance)),
        significance=significance,
        poi_hat=poi_hat,
        fits=fits,
        evaluations=evaluations,
    )


def warnings_for(events: float) -> tuple[str, ...]:
    """What to say of a limit with so many effective background events."""
    if events >= FEW_EVENTS:
        return ()
    return (f"{events:.3g} effective background events, fewer than {FEW_EVENTS:g}: asymptotic formulas are doubtful",)


def expected_target(method: LimitMethod, alpha: float, n_sigma: float) -> float:
    """sqrt(qA) at the limit that background only, fluctuated by n_sigma, is expected to give."""
    from scipy.special import ndtr, ndtri

    return n_sigma - float(ndtri(alpha * float(ndtr(n_sigma)) if method == "cls" else alpha))


def _deviates(point: _Point) -> tuple[float, float]:
    """Normal deviates of CLs+b and of CLb: arXiv:1007.1727, Eqs. (66) and (67) for mu' = mu and mu' = 0."""
    root = math.sqrt(point.qa)
    if root == 0.0:
        return (0.0 if point.q == 0.0 else math.inf), 0.0
    sb = math.sqrt(point.q) if point.q <= point.qa else (point.q + point.qa) / (2.0 * root)
    return sb, sb - root


def _deviate_slopes(point: _Point) -> tuple[float, float]:
    """Derivatives of `_deviates` by mu."""
    root = math.sqrt(point.qa)
    root_slope = point.qa_slope / (2.0 * root) if root > 0.0 else 0.0
    if point.q <= point.qa:
        sb = point.q_slope / (2.0 * math.sqrt(point.q)) if point.q > 0.0 else 0.0
    else:
        value = (point.q + point.qa) / (2.0 * root)
        sb = (point.q_slope + point.qa_slope) / (2.0 * root) - value * root_slope / root
    return sb, sb - root_slope


def _log_cls(sb: float, b: float) -> float:
    from scipy.special import log_ndtr

    return float(log_ndtr(-sb) - log_ndtr(-b))


def _hazard(deviate: float) -> float:
    """Normal density over upper tail."""
    from scipy.special import log_ndtr

    return math.exp(-0.5 * deviate**2 - 0.5 * math.log(2.0 * math.pi) - float(log_ndtr(-deviate)))


def _interpolated(known: list[tuple[float, float, float]], target: float) -> float:
    """mu at sqrt(qA) = target from known (sqrt(qA), mu, d ln mu/d ln sqrt(qA)), cubic in the logarithms."""
    above = bisect.bisect_left(known, (target, 0.0, 0.0))
    if above in (0, len(known)):
        root, mu, slope = known[min(above, len(known) - 1)]
        return mu * math.exp(min(max(slope * math.log(target / root), -3.0), 3.0))
    (root0, mu0, slope0), (root1, mu1, slope1) = known[above - 1], known[above]
    width = math.log(root1 / root0)
    if width <= 0.0:
        return mu0
    t = math.log(target / root0) / width
    y0, y1 = math.log(mu0), math.log(mu1)
    cubic = (
        (1.0 + 2.0 * t) * (1.0 - t) ** 2 * y0
        + t * (1.0 - t) ** 2 * width * slope0
        + t**2 * (3.0 - 2.0 * t) * y1
        + t**2 * (t - 1.0) * width * slope1
    )
    return math.exp(min(max(cubic, min(y0, y1)), max(y0, y1)))
