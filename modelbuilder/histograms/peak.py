"""The resolution of a simulated observable: a peak is fitted in a weighted histogram.

Shapes: a normal core, with a power tail on neither, either or both sides, continuous with its first derivative. That
is the Crystal Ball function of M. J. Oreglia, SLAC-R-236 (1980), appendix D, and J. E. Gaiser, SLAC-R-255 (1982),
appendix F, and its double-sided form with one width.

Method: the likelihood of the bins given their sum, -sum_i v_i ln p_i, with v_i the sums of weights and p_i the integral
of the density over bin i, normalised to the window. Its estimate is consistent for any weights. The covariance is the
sandwich A^-1 B A^-1 with A the information and B the variance of the score from the sums of squared weights, see
C. Langenbruch, Eur. Phys. J. C 82 (2022) 393. The scaled Poisson likelihood of G. Bohm and G. Zech, Nucl. Instrum.
Meth. A 748 (2014) 1, with a scale for each bin, needs several entries in every bin: in the fine bins here the scale
follows the chance contents of the bin, empty bins have none, and sigma comes out some per cent too small. It serves for the
goodness of fit, where bins are merged first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from modelbuilder.errors import FitFailure
from modelbuilder.histograms import bernstein

if TYPE_CHECKING:
    from collections.abc import Sequence

FloatArray = npt.NDArray[np.float64]
Shape = Literal["auto", "gauss", "crystal-ball-left", "crystal-ball-right", "double-crystal-ball"]

# Reasons of FitFailure
NEGATIVE_WEIGHTS = "negative-weights"
EMPTY = "empty-histogram"
TOO_FEW = "too-few-events"
BINS_TOO_WIDE = "bins-too-wide"
NO_PEAK = "no-peak"
NOT_CONVERGED = "not-converged"

CENTRAL_FRACTION = 0.683
LEAST_EFFECTIVE_ENTRIES = 200.0
LEAST_P_VALUE = 0.01
LARGEST_DISTANCE = 1e-3
"""Of the density from the fitted one, chi-square per effective entry: about 3 % of root mean square."""
_ENTRIES_PER_GROUP = 10.0  # effective; where a deviance begins to follow chi-square
_CORE = 0.25  # fraction of the entries that finds the peak
_CORE_IN_SIGMAS = 0.6373  # full width of the central quarter of a normal distribution
_ALPHA = (0.2, 5.0)
_INVERSE_N = (0.01, 0.95)  # the index of a tail enters the fit as 1/n
_NO_TAIL = (30.0, 2.0)  # alpha, n of a side that stays normal
_BROAD_ORDERS = (1, 2, 3, 4)


@dataclass(frozen=True, kw_only=True)
class Tail:
    """A power tail: the core turns into |x|^-n at alpha sigmas from the location.

    A standard deviation is NaN where the data do not determine the number or it is at the end of its range
    (alpha from 0.2 to 5, n from 1.05 to 100; a large n means an exponential tail).
    """

    alpha: float
    alpha_stdev: float
    n: float
    n_stdev: float


@dataclass(frozen=True, kw_only=True)
class PeakFit:
    """A fitted peak. Location, sigma and widths in the unit of the observable.

    shape: the one that was fitted, never "auto".
    location, sigma: mode and standard deviation of the normal core.
    left, right: tails, None where the shape has none.
    low, high: the window of the fit.
    total: sum of weights in the window.    fraction: that, relative to everything that was filled.
    deviance, n_dof: of bins merged to 10 effective entries or more, scaled for the weights.
    acceptable: whether p >= 0.01, or the density is within 3 % (root mean square) of the fitted one; see `fit_peak`.
    effective_sample_size: (sum w)^2 / sum w^2 in the window.
    half_width: half of the central 68.3 % of everything that was filled; NaN if a quantile lies outside the histogram.
    reference: what the location is compared with, or None.
    """

    shape: str
    location: float
    location_stdev: float
    sigma: float
    sigma_stdev: float
    left: Tail | None
    right: Tail | None
    low: float
    high: float
    total: float
    fraction: float
    deviance: float
    n_dof: int
    acceptable: bool
    effective_sample_size: float
    half_width: float
    half_width_stdev: float
    reference: float | None

    @property
    def bias(self) -> float | None:
        """location - reference; its uncertainty is that of the location."""
        return None if self.reference is None else self.location - self.reference

    @property
    def p_value(self) -> float:
        """Probability of a larger deviance; NaN without degrees of freedom."""
        from scipy.special import gammaincc

        return float(gammaincc(0.5 * self.n_dof, 0.5 * self.deviance)) if self.n_dof > 0 else math.nan

    def expected(self, edges: npt.ArrayLike) -> FloatArray:
        """Sums of weights that the fit expects in bins, which may lie outside the window; shape (len(edges) - 1,)."""
        inside = float(np.diff(self._cumulative(np.array([self.low, self.high])))[0])
        return self.total / inside * np.diff(self._cumulative(np.asarray(edges, dtype=np.float64)))

    def density(self, x: npt.ArrayLike) -> FloatArray:
        """Sum of weights per unit of the observable at points x, of the shape of x."""
        points = np.asarray(x, dtype=np.float64)
        step = 1e-4 * self.sigma
        low, high = self._cumulative(points.ravel() - step), self._cumulative(points.ravel() + step)
        inside = float(np.diff(self._cumulative(np.array([self.low, self.high])))[0])
        return (self.total / inside * (high - low) / (2.0 * step)).reshape(points.shape)

    def _cumulative(self, x: FloatArray) -> FloatArray:
        tails = [_NO_TAIL if tail is None else (tail.alpha, tail.n) for tail in (self.left, self.right)]
        return _cdf(x, self.location, self.sigma, tails[0], tails[1])


def fit_peak(
    edges: npt.ArrayLike,
    values: npt.ArrayLike,
    variances: npt.ArrayLike,
    *,
    shape: Shape = "auto",
    reference: float | None = None,
    underflow: float = 0.0,
    overflow: float = 0.0,
    window: float = 10.0,
) -> PeakFit:
    """Fit the one peak of a histogram.

    edges: shape (n_bins + 1,), ascending, in the unit of the observable; several bins per width of the peak.
    values, variances: sums of weights, none negative, and of squared weights; shape (n_bins,).
    shape: "auto" takes the first that is acceptable of gauss, crystal-ball (the better side), double-crystal-ball, and
        if none is, the one of least deviance plus twice the number of parameters. Acceptable: the deviance has a
        p-value of at least 0.01, or what it exceeds the degrees of freedom by is at most 1e-3 per effective entry. The
        second is what large samples need: no simulated peak is a Crystal Ball, and with enough events every fit is
        excluded, be the difference ever so small.
    reference: a true value, for the bias.
    underflow, overflow: sums of weights outside the edges, for the half width and the fraction.
    window: the fit takes this many rough widths on either side of the peak; what lies further out is not of its shape.

    Raises FitFailure with reason "empty-histogram", "negative-weights", "too-few-events" (fewer than 200 effective
    entries in the window), "bins-too-wide", "no-peak" (the histogram falls from its end, or a polynomial of at most
    fourth order describes it as well), or "not-converged".
    """
    e, v, u = _checked(edges, values, variances)
    if shape not in get_args(Shape):
        msg = f"peak: unknown shape {shape!r}; known: {', '.join(get_args(Shape))}"
        raise ValueError(msg)
    if np.any(v < 0.0) or underflow < 0.0 or overflow < 0.0:
        detail = "a bin has a negative sum of weights; a peak fit needs positive ones"
        raise FitFailure(NEGATIVE_WEIGHTS, detail)
    filled = float(v.sum()) + underflow + overflow
    if not v.sum() > 0.0:
        raise FitFailure(EMPTY, "no entries in the range of the histogram")
    data = _Window.around_the_peak(e, v, u, window)
    if data.effective < LEAST_EFFECTIVE_ENTRIES:
        detail = f"{data.effective:.4g} effective entries around the peak; at least {LEAST_EFFECTIVE_ENTRIES:g} needed"
        raise FitFailure(TOO_FEW, detail)
    best = _chosen(data, shape)
    _refuse_broad(data, best)
    half_width = _half_width(e, v, underflow, overflow)
    everything = filled * float(v.sum() / u.sum())  # effective entries, if weights outside are as those inside
    located, tails = best.estimates, best.tails
    return PeakFit(
        shape=best.shape,
        location=located[0][0],
        location_stdev=located[0][1],
        sigma=located[1][0],
        sigma_stdev=located[1][1],
        left=tails.get("left"),
        right=tails.get("right"),
        low=float(data.edges[0]),
        high=float(data.edges[-1]),
        total=float(data.values.sum()),
        fraction=float(data.values.sum()) / filled,
        deviance=best.deviance,
        n_dof=best.n_dof,
        acceptable=best.acceptable(data),
        effective_sample_size=data.effective,
        half_width=half_width,
        half_width_stdev=half_width / math.sqrt(everything),
        reference=reference,
    )


def peak_edges(
    values: npt.ArrayLike, weights: npt.ArrayLike | None = None, *, per_sigma: int = 8, most_bins: int = 2000
) -> FloatArray:
    """Edges of a fine histogram for a peak, from a first piece of the events; shape (n_bins + 1,).

    values: of the observable, shape (n,), NaN where an event has none.    weights: of shape (n,), none negative.
    per_sigma: bins in a rough width, which is that of the shortest interval with a quarter of the entries.

    The width of all bins is 1, 2 or 5 times a power of ten, at most 1/per_sigma of the rough width, and the edges are
    whole multiples of it. They reach a quarter further than the quantiles of 0.05 % on either side; if that needs more
    than most_bins, as many as are allowed, shared between the two sides of the peak as they need them. Later pieces of
    the events go to underflow and overflow where they lie outside. Deterministic: a function of the arguments.
    """
    x = np.asarray(values, dtype=np.float64).ravel()
    w = np.ones_like(x) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if x.shape != w.shape or per_sigma < 1 or most_bins < 10:
        msg = f"peak_edges: {x.size} values, {w.size} weights, per_sigma {per_sigma}, most_bins {most_bins}"
        raise ValueError(msg)
    used = np.isfinite(x) & (w > 0.0)
    if not used.any():
        raise FitFailure(EMPTY, "no entries to choose the bins from")
    order = np.argsort(x[used], kind="stable")
    x, w = x[used][order], w[used][order]
    cumulative = np.cumsum(w)
    cumulative /= cumulative[-1]
    low, high = np.interp([0.0005, 0.9995], cumulative, x)
    centre, sigma = _rough_peak(x, np.concatenate([[0.0], cumulative[1:]]))
    span = max(high - low, 0.0)
    smallest = (
        max(abs(float(x[0])), abs(float(x[-1]))) or 1.0
    ) * 1e-9  # of the bins that double precision can tell apart
    sigma = max(sigma, smallest * per_sigma)
    low, high = min(low - 0.25 * span, centre - 3.0 * sigma), max(high + 0.25 * span, centre + 3.0 * sigma)
    step, exponent = _nice(sigma / per_sigma)
    first, last = math.floor(low / step), math.ceil(high / step)
    if last - first > most_bins:
        middle = round(centre / step)
        below, above = middle - first, last - middle
        taken = min(max(round(most_bins * below / (below + above)), most_bins // 10), most_bins - most_bins // 10)
        first, last = middle - taken, middle + most_bins - taken
    whole = np.arange(first, last + 1, dtype=np.float64)
    mantissa = round(step / 10.0**exponent)
    # the quotient of whole numbers is the double that is nearest to the decimal number
    scaled: FloatArray = whole * mantissa / 10.0**-exponent if exponent < 0 else whole * mantissa * 10.0**exponent
    return scaled


# ---------------------------------------------------------------------------------------------------------------------


def _cdf(x: FloatArray, location: float, sigma: float, left: Sequence[float], right: Sequence[float]) -> FloatArray:
    """Cumulative distribution of the double-sided Crystal Ball function with one width; left, right: alpha and n."""
    from scipy.special import erf

    z = (x - location) / sigma
    (a_left, n_left), (a_right, n_right) = left, right
    root = math.sqrt(0.5)
    scale = math.sqrt(0.5 * math.pi)
    # integrals of exp(-z^2/2) between -a_left and a_right, and of the tails beyond, in units of sigma
    below = n_left / a_left / (n_left - 1.0) * math.exp(-0.5 * a_left**2)
    above = n_right / a_right / (n_right - 1.0) * math.exp(-0.5 * a_right**2)
    lower = math.erf(-a_left * root)
    core = scale * (erf(np.clip(z, -a_left, a_right) * root) - lower)
    whole = below + scale * (math.erf(a_right * root) - lower) + above
    # a tail falls with the power 1 - n of its distance from a pole, relative to that of the core
    tail = below * (1.0 + np.maximum(-a_left - z, 0.0) * a_left / n_left) ** (1.0 - n_left)
    beyond = above * (1.0 - (1.0 + np.maximum(z - a_right, 0.0) * a_right / n_right) ** (1.0 - n_right))
    result: FloatArray = (tail + core + beyond) / whole
    return result


def _checked(
    edges: npt.ArrayLike, values: npt.ArrayLike, variances: npt.ArrayLike
) -> tuple[FloatArray, FloatArray, FloatArray]:
    e, v, u = (np.asarray(array, dtype=np.float64) for array in (edges, values, variances))
    if e.ndim != 1 or len(e) < 2 or v.shape != (len(e) - 1,) or u.shape != v.shape:
        msg = (
            f"peak: edges, values, variances of shapes {e.shape}, {v.shape}, {u.shape}; it must be (n + 1,), (n,), (n,)"
        )
        raise ValueError(msg)
    if not (np.isfinite(e).all() and np.isfinite(v).all() and np.isfinite(u).all() and np.all(np.diff(e) > 0.0)):
        msg = "peak: edges must ascend, and all numbers must be finite"
        raise ValueError(msg)
    return e, v, u


def _rough_peak(x: FloatArray, cumulative: FloatArray) -> tuple[float, float]:
    """Centre and width, as the sigma of a normal peak, of the shortest interval with a quarter of the entries.

    x: ascending points; cumulative: fraction of the entries below each.
    """
    starts = cumulative <= 1.0 - _CORE
    ends = np.interp(cumulative[starts] + _CORE, cumulative, x)
    widths = ends - x[starts]
    best = int(np.argmin(widths))
    return float(x[starts][best] + 0.5 * widths[best]), float(widths[best]) / _CORE_IN_SIGMAS


def _nice(size: float) -> tuple[float, int]:
    """The largest of 1, 2, 5 times a power of ten that is not above `size`, and the exponent of ten."""
    exponent = math.floor(math.log10(size))
    mantissa = size / 10.0**exponent
    factor = 5 if mantissa >= 5.0 else 2 if mantissa >= 2.0 else 1
    return factor * 10.0**exponent, exponent


def _half_width(edges: FloatArray, values: FloatArray, underflow: float, overflow: float) -> float:
    """Half the distance of the quantiles, linear within bins; NaN if one lies outside."""
    cumulative = underflow + np.concatenate([[0.0], np.cumsum(values)])
    total = cumulative[-1] + overflow
    wanted = total * np.array([0.5 - 0.5 * CENTRAL_FRACTION, 0.5 + 0.5 * CENTRAL_FRACTION])
    if wanted[0] < cumulative[0] or wanted[1] > cumulative[-1]:
        return math.nan
    low, high = np.interp(wanted, cumulative, edges)
    return float(0.5 * (high - low))


@dataclass(frozen=True, kw_only=True)
class _Window:
    """The bins of the fit. groups: first bins of the merged ones that judge it, and the number of bins."""

    edges: FloatArray
    values: FloatArray
    variances: FloatArray
    centre: float
    sigma: float
    groups: tuple[int, ...]

    @classmethod
    def around_the_peak(cls, edges: FloatArray, values: FloatArray, variances: FloatArray, window: float) -> _Window:
        cumulative = np.concatenate([[0.0], np.cumsum(values)]) / values.sum()
        centre, sigma = _rough_peak(edges, cumulative)
        first = max(int(np.searchsorted(edges, centre - window * sigma, side="right")) - 1, 0)
        last = min(int(np.searchsorted(edges, centre + window * sigma, side="left")), len(values))
        part = slice(first, last)
        v, u = values[part], variances[part]
        return cls(
            edges=edges[first : last + 1], values=v, variances=u, centre=centre, sigma=sigma, groups=_groups(v, u)
        )

    @property
    def effective(self) -> float:
        return float(self.values.sum()) ** 2 / float(self.variances.sum())

    def merged(self, per_bin: FloatArray) -> FloatArray:
        return np.add.reduceat(per_bin, self.groups[:-1])

    @property
    def merged_edges(self) -> FloatArray:
        return self.edges[list(self.groups)]

    def deviance(self, expected: FloatArray) -> float:
        """-2 ln of the likelihood ratio of merged bins, each a Poisson number in units of its mean weight.

        expected: of the merged bins. Bohm and Zech: the unit is sum w^2 / sum w of the bin.
        """
        v = self.merged(self.values)
        kernel = np.ones(5)
        unit = np.convolve(self.merged(self.variances), kernel, "same") / np.convolve(v, kernel, "same")
        mu = np.maximum(expected, 1e-300)
        return float(2.0 * np.sum((mu - v + v * np.log(v / mu)) / unit))


def _groups(values: FloatArray, variances: FloatArray) -> tuple[int, ...]:
    """Bins merged from the left until they have enough effective entries; the rest goes to the last group."""
    starts = [0]
    enough = (1.0 - 1e-9) * _ENTRIES_PER_GROUP * float(variances.sum() / values.sum())
    total = 0.0
    for i, value in enumerate(values.tolist()):
        total += value
        if total >= enough:
            starts.append(i + 1)
            total = 0.0
    if len(starts) > 1:
        starts[-1] = len(values)
    else:
        starts.append(len(values))
    return tuple(starts)


_TAILS: dict[str, tuple[str, ...]] = {
    "gauss": (),
    "crystal-ball-left": ("left",),
    "crystal-ball-right": ("right",),
    "double-crystal-ball": ("left", "right"),
}


@dataclass(frozen=True, kw_only=True)
class _Fit:
    """parameters: location, sigma, then alpha and 1/n of each tail. stdevs: NaN where not determined."""

    shape: str
    parameters: FloatArray
    stdevs: FloatArray
    deviance: float
    n_dof: int

    @property
    def estimates(self) -> list[tuple[float, float]]:
        return list(zip(self.parameters.tolist(), self.stdevs.tolist(), strict=True))

    @property
    def tails(self) -> dict[str, Tail]:
        found = {}
        for i, side in enumerate(_TAILS[self.shape]):
            (alpha, alpha_stdev), (inverse, inverse_stdev) = self.estimates[2 + 2 * i : 4 + 2 * i]
            found[side] = Tail(
                alpha=alpha, alpha_stdev=alpha_stdev, n=1.0 / inverse, n_stdev=inverse_stdev / inverse**2
            )
        return found

    @property
    def information(self) -> float:
        return self.deviance + 2.0 * len(self.parameters)

    def acceptable(self, data: _Window) -> bool:
        from scipy.special import gammaincc

        if self.n_dof < 1:
            return True
        close = self.deviance - self.n_dof <= LARGEST_DISTANCE * data.effective
        return close or float(gammaincc(0.5 * self.n_dof, 0.5 * self.deviance)) >= LEAST_P_VALUE


def _chosen(data: _Window, shape: Shape) -> _Fit:
    """The fit of a shape, or the first acceptable one of all."""
    if shape != "auto":
        return _fitted(data, shape, None)
    fits: list[_Fit] = []
    for shapes in (("gauss",), ("crystal-ball-left", "crystal-ball-right"), ("double-crystal-ball",)):
        start = min(fits, key=lambda fit: fit.deviance) if fits else None
        new = []
        for name in shapes:
            try:
                new.append(_fitted(data, name, start))
            except FitFailure as failure:
                if failure.reason != NOT_CONVERGED:
                    raise
        good = [fit for fit in new if fit.acceptable(data)]
        if good:
            return min(good, key=lambda fit: fit.deviance)
        fits += new
    if not fits:
        raise FitFailure(NOT_CONVERGED, "no shape converged")
    return min(fits, key=lambda fit: fit.information)


def _fitted(data: _Window, shape: str, start: _Fit | None) -> _Fit:
    """Fit one shape; `start`: a simpler one whose location and sigma serve as first values."""
    from iminuit import Minuit  # type: ignore[import-untyped]

    sides = _TAILS[shape]
    bins = np.diff(data.edges)
    span = float(data.edges[-1] - data.edges[0])
    sigma = min(max(data.sigma, float(bins.min())), 0.5 * span)
    location = data.centre
    if start is not None and sides:
        location, sigma = (float(number) for number in start.parameters[:2])
        sigma *= 0.9
    first = [location, sigma, *(1.5, 0.3) * len(sides)]
    limits = [(data.edges[0] - span, data.edges[-1] + span), (0.01 * float(bins.min()), span)]
    limits += [_ALPHA, _INVERSE_N] * len(sides)
    scale = float(data.values.sum() / data.variances.sum())
    used = data.values > 0.0
    weights = scale * data.values[used]

    def cost(parameters: FloatArray) -> float:
        return -float(weights @ np.log(_probabilities(parameters, data.edges, sides)[used]))

    best: Any = None
    for factor in (1.0, 0.5, 2.0):
        minuit = Minuit(cost, np.array([location, sigma * factor, *first[2:]]))
        minuit.errordef = Minuit.LIKELIHOOD
        minuit.limits = limits
        minuit.errors = [0.1 * sigma, 0.1 * sigma, *(0.2, 0.1) * len(sides)]
        minuit.strategy = 1
        level = minuit.print_level  # of all Minuit objects; a matrix that is mended need not be told on the terminal
        minuit.print_level = -1
        try:
            minuit.migrad(ncall=4000)
            if not minuit.valid:
                minuit.simplex().migrad(ncall=4000)
        finally:
            minuit.print_level = level
        if minuit.valid and (best is None or minuit.fval < best.fval):
            best = minuit
        if best is not None and start is None and not sides:
            break
    if best is None:
        detail = f"{shape}: no minimum of the likelihood after {minuit.nfcn} evaluations"
        raise FitFailure(NOT_CONVERGED, detail)
    parameters = np.array(best.values, dtype=np.float64)
    narrowest = float(bins[min(int(np.searchsorted(data.edges, parameters[0])), len(bins)) - 1])
    if parameters[1] < 0.3 * narrowest:
        detail = f"sigma is {parameters[1]:.3g} in bins of {narrowest:.3g}; it must be at least 0.3 bins"
        raise FitFailure(BINS_TOO_WIDE, detail)
    expected = data.merged(_probabilities(parameters, data.edges, sides)) * data.values.sum()
    return _Fit(
        shape=shape,
        parameters=parameters,
        stdevs=_stdevs(parameters, data, sides),
        deviance=data.deviance(expected),
        n_dof=len(data.groups) - 2 - len(parameters),
    )


def _probabilities(parameters: FloatArray, edges: FloatArray, sides: tuple[str, ...]) -> FloatArray:
    """Of the bins, given that the event is in one of them. parameters: location, sigma, alpha and 1/n of each side."""
    tails = {side: (parameters[2 + 2 * i], 1.0 / parameters[3 + 2 * i]) for i, side in enumerate(sides)}
    cumulative = _cdf(edges, parameters[0], parameters[1], tails.get("left", _NO_TAIL), tails.get("right", _NO_TAIL))
    # far out, and where the core has left the window, differences of rounded numbers may be 0 or a little below
    parts = np.maximum(np.diff(cumulative), 1e-15)
    probabilities: FloatArray = parts / parts.sum()
    return probabilities


def _stdevs(parameters: FloatArray, data: _Window, sides: tuple[str, ...]) -> FloatArray:
    """Standard deviations from the sandwich covariance; NaN for parameters at their limits or not determined."""
    step = np.array([1e-3 * parameters[1]] * 2 + [1e-3, 1e-3] * len(sides))
    limits = [(-math.inf, math.inf), (0.0, math.inf), *[_ALPHA, _INVERSE_N] * len(sides)]
    inside = [low + 2.0 * h < p < high - 2.0 * h for p, h, (low, high) in zip(parameters, step, limits, strict=True)]
    probabilities = _probabilities(parameters, data.edges, sides)
    gradient = np.zeros((len(parameters), len(probabilities)))
    for i, h in enumerate(step):
        if inside[i]:
            shift = np.zeros(len(parameters))
            shift[i] = h
            up = _probabilities(parameters + shift, data.edges, sides)
            down = _probabilities(parameters - shift, data.edges, sides)
            gradient[i] = np.log(up / down) / (2.0 * h)
    information = data.values.sum() * (gradient * probabilities) @ gradient.T
    variance = (gradient * data.variances) @ gradient.T
    # in units of the steps, so that numbers of different units compare
    size = np.diag(information) * step**2
    free = np.flatnonzero(size > 1e-9 * size.max())
    block = np.ix_(free, free)
    result = np.full(len(parameters), math.nan)
    try:
        inverse = np.linalg.inv(information[block])
    except np.linalg.LinAlgError:
        return result
    spread = np.diag(inverse @ variance[block] @ inverse)
    result[free] = np.sqrt(np.where(spread > 0.0, spread, math.nan))
    return result


def _refuse_broad(data: _Window, fit: _Fit) -> None:
    """Raise FitFailure "no-peak" where the histogram has no peak that falls on both sides, or none at all."""
    location, sigma = float(fit.parameters[0]), float(fit.parameters[1])
    low, high = float(data.edges[0]), float(data.edges[-1])
    if not low + 0.5 * sigma <= location <= high - 0.5 * sigma:
        detail = f"the histogram falls from its end: the fit puts a peak of width {sigma:.3g} at {location:.6g}"
        raise FitFailure(NO_PEAK, detail)
    if sigma > 0.35 * (high - low):
        detail = f"the fitted width {sigma:.3g} is that of the whole range, {low:.6g} to {high:.6g}"
        raise FitFailure(NO_PEAK, detail)
    filled = np.flatnonzero(data.values > 0.0)
    edges = np.clip(data.merged_edges, data.edges[filled[0]], data.edges[filled[-1] + 1])
    values = data.merged(data.values)
    unit = float(data.variances.sum() / data.values.sum())
    for order in _BROAD_ORDERS:
        broad = bernstein.fit(values / unit, edges, order) @ bernstein.basis(edges, order)
        deviance = data.deviance(broad * (values.sum() / broad.sum()))
        if deviance + 2.0 * order <= fit.information:
            detail = (
                f"a polynomial of order {order} describes the histogram from {edges[0]:.6g} to {edges[-1]:.6g} at least"
                f" as well as a peak does (deviance {deviance:.4g}, of a peak {fit.deviance:.4g})"
            )
            raise FitFailure(NO_PEAK, detail)
