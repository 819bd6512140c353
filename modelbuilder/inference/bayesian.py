"""Bayesian upper limits on the POI.

The posterior of the signal strength mu >= 0 is its prior times the likelihood, integrated over the nuisance parameters.
Those have a flat prior within their bounds, times what the auxiliary data say: a normal prior for normsys, histosys,
lumi and staterror, a gamma distribution for shapesys. The prior of mu is one of

    flat          1, for mu >= 0
    inverse-sqrt  1/sqrt(mu), what Jeffreys' rule gives for a counting experiment without background

Integrals over up to three nuisance parameters are done by Gauss-Legendre quadrature on a grid; over more by importance
sampling from a normal distribution around the best fit at each mu, with the same random numbers at every mu. The
integral over mu is Gauss-Legendre quadrature in panels.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.results import N_SIGMA

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.inference.results import FitResult

    Array = NDArray[np.float64]

Prior = Literal["flat", "inverse-sqrt"]
PRIORS: tuple[Prior, ...] = ("flat", "inverse-sqrt")
Marginalisation = Literal["none", "quadrature", "importance-sampling"]

MAX_QUADRATURE = 3
"""With more nuisance parameters the integral is sampled, unless quadrature is asked for."""

# per nuisance parameter; a third of it per piece of one that is cut where interpolation changes its form
_NODES = {0: 1, 1: 56, 2: 44, 3: 30, 4: 18}
_PANELS = 5
_MU_NODES = 16
_FAR = 50.0  # of -2 ln L above its minimum: of e^-25 nothing is left
_BATCHES = 8
_LEAST_SAMPLES = 25.0  # effective, per batch


@dataclass(frozen=True, kw_only=True)
class BayesianLimit:
    """An upper limit on the POI: the posterior probability below it is `confidence_level`.

    expected: at -2, -1, 0, +1, +2 sigma, for the counts that background only is expected to give; None unless exact.
    n_nuisances: parameters integrated over, in the way that `marginalisation` says.
    relative_error: estimated, of the integrals: from fewer nodes, or from the spread of independent samples.
    effective_samples: the smallest of all values of mu, of all samples together; None without sampling.
    """

    poi_name: str
    prior: Prior
    confidence_level: float
    observed: float
    expected: tuple[float, ...] | None
    marginalisation: Marginalisation
    n_nuisances: int
    relative_error: float
    effective_samples: float | None
    warnings: tuple[str, ...]


def bayesian_counting_limits(
    counts: ArrayLike, background: ArrayLike, *, signal: ArrayLike = 1.0, confidence_level: float = 0.9
) -> Array:
    """Upper limits on mu for counting experiments that expect mu * signal + background events; flat prior, exact.

    The arguments are broadcast. With Q the regularised upper incomplete gamma function, the limit solves
    Q(n + 1, mu signal + background) = (1 - CL) Q(n + 1, background): also what CLs is, ordered by the count.
    """
    from scipy.special import gammaincc, gammainccinv

    _check(confidence_level, "flat")
    n, b, s = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in (counts, background, signal)))
    if not ((n >= 0.0) & (b >= 0.0) & (s > 0.0) & np.isfinite(n + b + s)).all():
        msg = "counts, background, signal: have to be finite, 0 or more, and the signal above 0"
        raise ValueError(msg)
    alpha = 1.0 - confidence_level
    tail = gammaincc(n + 1.0, b)
    usable = tail > 1e-280
    total = np.where(usable, gammainccinv(n + 1.0, np.where(usable, alpha * tail, 0.5)), np.nan)
    for _ in range(3):  # the inverse is good to 1e-8 or so in the far tail; Newton in ln Q
        value = gammaincc(n + 1.0, total)
        density = np.exp(n * np.log(np.maximum(total, 1e-300)) - total - _log_gamma(n + 1.0))
        total = total + np.where(density > 0.0, np.log(value / (alpha * tail)) * value / density, 0.0)
    limits = np.array((total - b) / s)
    for index in np.ndindex(limits.shape) if not usable.all() else ():
        if not usable[index]:
            limits[index] = _deep_deficit(float(n[index]), float(b[index]), alpha) / float(s[index])
    return limits


def bayesian_counting_limit(
    count: float, background: float, *, signal: float = 1.0, confidence_level: float = 0.9
) -> BayesianLimit:
    """The same for one experiment, with its expected band: the counts at these quantiles of the background."""
    from scipy.special import ndtr
    from scipy.stats import poisson

    quantiles = [float(poisson.ppf(float(ndtr(n_sigma)), background)) for n_sigma in N_SIGMA]
    limits = bayesian_counting_limits(
        [count, *quantiles], background, signal=signal, confidence_level=confidence_level
    ).tolist()
    return BayesianLimit(
        poi_name="mu",
        prior="flat",
        confidence_level=confidence_level,
        observed=limits[0],
        expected=tuple(limits[1:]),
        marginalisation="none",
        n_nuisances=0,
        relative_error=0.0,
        effective_samples=None,
        warnings=(),
    )


def bayesian_upper_limit(
    likelihood: CompiledLikelihood,
    data: ArrayLike | None = None,
    *,
    confidence_level: float = 0.9,
    prior: Prior = "flat",
    marginalisation: Literal["quadrature", "importance-sampling"] | None = None,
    seed: int = 0,
    n_samples: int = 4096,
) -> BayesianLimit:
    """The upper limit on the POI from its posterior.

    data: in pyhf order, None for the observed ones.    marginalisation: by default quadrature where it is affordable.
    seed, n_samples: of the sampling; `n_samples` are shared among eight independent batches.
    """
    _check(confidence_level, prior)
    posterior = _Posterior(likelihood, data, prior)
    n = len(posterior.nuisances)
    if marginalisation is None:
        marginalisation = "quadrature" if n <= MAX_QUADRATURE else "importance-sampling"
    if marginalisation == "quadrature" and n not in _NODES:
        msg = f"marginalisation: quadrature over {n} nuisance parameters; up to {max(_NODES)} are possible"
        raise ValueError(msg)
    if marginalisation not in {"quadrature", "importance-sampling"}:
        msg = f"marginalisation: found {marginalisation!r}; known: quadrature, importance-sampling"
        raise ValueError(msg)
    if marginalisation == "quadrature" or n == 0:
        fine, coarse = (posterior.by_quadrature(_NODES[n], less) for less in (1.0, 0.75))
        observed = posterior.limit(fine, confidence_level)
        error = abs(posterior.limit(coarse, confidence_level) / observed - 1.0) if n else 0.0
        effective = None
    else:
        batches, effective = posterior.by_sampling(seed, max(n_samples // _BATCHES, 16))
        total = np.logaddexp.reduce(batches, axis=0) - math.log(_BATCHES)
        observed = posterior.limit(total, confidence_level)
        each = np.array([posterior.limit(batch, confidence_level) for batch in batches])
        error = float(each.std(ddof=1)) / math.sqrt(_BATCHES) / observed
        if effective < _LEAST_SAMPLES * _BATCHES:
            reason = "sampling-failed"
            detail = (
                f"{effective:.0f} effective samples of {n_samples}; at least {_LEAST_SAMPLES * _BATCHES:.0f} needed"
            )
            raise FitFailure(reason, detail)
    warnings = (f"the limit is known to {error:.1g} only",) if error > 0.01 else ()
    return BayesianLimit(
        poi_name=likelihood.poi_name,
        prior=prior,
        confidence_level=confidence_level,
        observed=observed,
        expected=None,
        marginalisation="none" if n == 0 else marginalisation,
        n_nuisances=n,
        relative_error=error,
        effective_samples=effective,
        warnings=warnings,
    )


class _Posterior:
    """ln of the marginal likelihood at Gauss-Legendre nodes of mu (of its root, for a prior 1/sqrt(mu))."""

    def __init__(self, likelihood: CompiledLikelihood, data: ArrayLike | None, prior: Prior) -> None:
        self._likelihood = likelihood
        self._data = np.array(likelihood.observed_data if data is None else data, dtype=float)
        self._flat = likelihood._full
        self._split = likelihood._split(self._flat, self._data)
        self._rooted = prior == "inverse-sqrt"
        poi = likelihood.poi_index
        parameters = likelihood.parameters
        self.nuisances = np.array(
            [i for i, p in enumerate(parameters) if i != poi and not p.fixed and p.upper > p.lower], dtype=np.int64
        )
        self._lower = np.array([parameters[i].lower for i in self.nuisances])
        self._upper = np.array([parameters[i].upper for i in self.nuisances])
        best = likelihood.fit(self._data, poi_lower=0.0)
        self._fits = {best.poi_value: best}
        self._edges = np.linspace(*self._range(), _PANELS + 1)
        nodes, self._weights = np.polynomial.legendre.leggauss(_MU_NODES)
        half = 0.5 * np.diff(self._edges)
        self._variable = (0.5 * (self._edges[1:] + self._edges[:-1])[:, None] + half[:, None] * nodes).ravel()
        self._mus = self._variable**2 if self._rooted else self._variable

    # ---------------------------------------------------------------------------------------------- in mu

    def limit(self, logs: Array, confidence_level: float) -> float:
        """The value below which the posterior probability is this, given the ln of its density at the nodes."""
        from scipy.interpolate import BarycentricInterpolator
        from scipy.optimize import brentq

        logs = logs - logs.max()
        half = 0.5 * np.diff(self._edges)
        parts = (np.exp(logs).reshape(_PANELS, _MU_NODES) @ self._weights) * half
        cumulative = np.concatenate([[0.0], np.cumsum(parts)])
        target = confidence_level * cumulative[-1]
        panel = min(int(np.searchsorted(cumulative, target)) - 1, _PANELS - 1)
        left, right = float(self._edges[panel]), float(self._edges[panel + 1])
        nodes = slice(panel * _MU_NODES, (panel + 1) * _MU_NODES)
        curve = BarycentricInterpolator(self._variable[nodes], logs[nodes])
        unit, weights = np.polynomial.legendre.leggauss(_MU_NODES)

        def missing(at: float) -> float:
            x = 0.5 * (left + at) + 0.5 * (at - left) * unit
            return float(cumulative[panel] + 0.5 * (at - left) * (np.exp(curve(x)) @ weights) - target)

        found = float(brentq(missing, left, right, xtol=1e-14 * right, rtol=1e-13))
        return found**2 if self._rooted else found

    def _range(self) -> tuple[float, float]:
        """Where the posterior is not nothing, in the variable of integration."""
        from scipy.special import ndtri

        from modelbuilder.inference.compiled_limits import compiled_upper_limit

        (best,) = self._fits.values()
        limit = compiled_upper_limit(self._likelihood, self._data, confidence_level=0.95)
        width = (max(limit.observed, best.poi_value) - best.poi_value) / -float(ndtri(0.05))
        width = max(width, 1e-3 * limit.observed)

        def far(mu: float) -> bool:
            return self._fit(mu).twice_nll - best.twice_nll > _FAR

        above = 4.0 * width
        for _ in range(200):
            if far(best.poi_value + above):
                break
            above *= 1.25
        below = 4.0 * width
        while best.poi_value - below > 0.0 and not far(best.poi_value - below):
            below *= 1.25
        low, high = max(best.poi_value - below, 0.0), best.poi_value + above
        return (math.sqrt(low), math.sqrt(high)) if self._rooted else (low, high)

    def _fit(self, mu: float) -> FitResult:
        if mu not in self._fits:
            nearest = min(self._fits, key=lambda other: abs(other - mu))
            self._fits[mu] = self._likelihood.fit_fixed_poi(mu, self._data, start=self._fits[nearest].bestfit)
        return self._fits[mu]

    # ----------------------------------------------------------------------------------- in the nuisance parameters

    def _values(self, points: Array) -> Array:
        from modelbuilder.inference._marginal import values_packed

        values = np.empty(len(points))
        split = self._split
        values_packed(
            self._flat.integers,
            self._flat.floats,
            split.counts,
            split.auxiliary,
            split.local_auxiliary,
            points,
            values,
        )
        return values

    def _covariance(self, fit: FitResult) -> Array:
        """Of the nuisance parameters at fixed mu, from the curvature; no wider than their bounds."""
        hessian = self._likelihood.derivatives(fit.bestfit, self._data).hessian
        inner = 0.5 * hessian[np.ix_(self.nuisances, self.nuisances)]
        least = 1.0 / (self._upper - self._lower) ** 2  # what a flat prior would have, about
        scale = 1.0 / np.sqrt(np.maximum(np.diag(inner), least))
        values, vectors = np.linalg.eigh(inner * np.outer(scale, scale))
        values = np.maximum(values, 1e-6)
        covariance: Array = (vectors / values) @ vectors.T * np.outer(scale, scale)
        return covariance

    def by_quadrature(self, n_nodes: int, share: float) -> Array:
        """ln of the integral at each mu. share: of the nodes that are used."""
        n = max(round(n_nodes * share), 2)
        logs = np.empty(len(self._mus))
        for k, mu in enumerate(self._mus.tolist()):
            fit = self._fit(mu)
            point = np.array(fit.bestfit)
            base = float(self._values(point[None, :])[0])
            if not len(self.nuisances):
                logs[k] = -0.5 * base
                continue
            sigma = np.sqrt(np.diag(self._covariance(fit)))
            axes, weights = [], []
            for i, parameter in enumerate(self.nuisances.tolist()):
                low = self._end(point, parameter, base, -7.0 * float(sigma[i]), float(self._lower[i]))
                high = self._end(point, parameter, base, 7.0 * float(sigma[i]), float(self._upper[i]))
                x, w = self._axis(parameter, low, high, n)
                axes.append(x)
                weights.append(w)
            grid = np.meshgrid(*axes, indexing="ij")
            total = np.ones(())
            for w in weights:
                total = np.multiply.outer(total, w)
            points = np.tile(point, (grid[0].size, 1))
            for i, parameter in enumerate(self.nuisances.tolist()):
                points[:, parameter] = grid[i].ravel()
            values = self._values(points)
            logs[k] = math.log(float(np.exp(-0.5 * (values - base)) @ total.ravel())) - 0.5 * base
        return logs

    def _end(self, point: Array, parameter: int, base: float, step: float, bound: float) -> float:
        """How far a parameter goes before nothing is left, or its bound is reached."""
        moved = point.copy()
        for _ in range(60):
            moved[parameter] = point[parameter] + step
            if (moved[parameter] - bound) * step >= 0.0:
                return bound
            if not float(self._values(moved[None, :])[0]) - base < _FAR:
                break
            step *= 1.5
        return float(moved[parameter])

    def _axis(self, parameter: int, low: float, high: float, n: int) -> tuple[Array, Array]:
        """Nodes and weights; with one or two parameters in pieces, between which interpolation changes its form."""
        breaks = [low, high]
        if len(self.nuisances) <= 2 and self._likelihood.parameters[parameter].centre == 0.0:
            breaks += [at for at in (-1.0, 0.0, 1.0) if low < at < high]
            n = n // 3
        breaks.sort()
        x, w = np.polynomial.legendre.leggauss(n)
        nodes = [0.5 * (a + b) + 0.5 * (b - a) * x for a, b in itertools.pairwise(breaks)]
        weights = [0.5 * (b - a) * w for a, b in itertools.pairwise(breaks)]
        return np.concatenate(nodes), np.concatenate(weights)

    def by_sampling(self, seed: int, n_samples: int) -> tuple[Array, float]:
        """ln of the integral at each mu, one row per batch; the smallest effective number of all samples."""
        n = len(self.nuisances)
        rng = np.random.default_rng(seed)
        normal = rng.standard_normal((_BATCHES, (n_samples + 1) // 2, n))
        normal = np.concatenate([normal, -normal], axis=1)
        n_samples = normal.shape[1]
        squared = np.einsum("bsi,bsi->bs", normal, normal)
        logs = np.empty((_BATCHES, len(self._mus)))
        smallest = math.inf
        for k, mu in enumerate(self._mus.tolist()):
            fit = self._fit(mu)
            point = np.array(fit.bestfit)
            base = float(self._values(point[None, :])[0])
            factor = np.linalg.cholesky(self._covariance(fit))
            moved = point[self.nuisances] + normal @ factor.T
            inside = ((moved >= self._lower) & (moved <= self._upper)).all(axis=2)
            points = np.tile(point, (_BATCHES * n_samples, 1))
            points[:, self.nuisances] = np.clip(moved, self._lower, self._upper).reshape(-1, n)
            values = self._values(points).reshape(_BATCHES, n_samples)
            weights = np.where(inside, np.exp(np.minimum(-0.5 * (values - base - squared), 700.0)), 0.0)
            sums = weights.sum(axis=1)
            if not (sums > 0.0).all():
                reason, detail = "sampling-failed", f"no sample is possible at {self._likelihood.poi_name} = {mu:.6g}"
                raise FitFailure(reason, detail)
            # where the density itself is nothing, its precision does not matter
            if fit.twice_nll - min(one.twice_nll for one in self._fits.values()) < 10.0:
                smallest = min(smallest, float(weights.sum()) ** 2 / float((weights**2).sum()))
            scale = float(np.log(np.diag(factor)).sum())
            logs[:, k] = np.log(sums / n_samples) + scale - 0.5 * base
        return logs, smallest


def _check(confidence_level: float, prior: str) -> None:
    if not 0.0 < confidence_level < 1.0:
        msg = f"confidence_level: found {confidence_level}; it lies above 0 and below 1, such as 0.9"
        raise ValueError(msg)
    if prior not in PRIORS:
        msg = f"prior: found {prior!r}; known: {', '.join(PRIORS)}"
        raise ValueError(msg)


def _log_gamma(x: Array) -> Array:
    from scipy.special import gammaln

    return np.asarray(gammaln(x))


def _deep_deficit(n: float, b: float, alpha: float) -> float:
    """The limit on events where Q(n + 1, b) is too small for a double: the density falls from b as (1 + x/b)^n e^-x."""
    from scipy.integrate import quad
    from scipy.optimize import brentq

    def density(x: float) -> float:
        return math.exp(n * math.log1p(x / b) - x)

    slope = 1.0 - n / b
    end = 60.0 / slope if slope > 0.0 else 60.0 + b
    total = quad(density, 0.0, end, epsabs=0.0, epsrel=1e-11, limit=400)[0]
    return float(
        brentq(
            lambda x: quad(density, 0.0, x, epsabs=0.0, epsrel=1e-11, limit=400)[0] / total - (1.0 - alpha), 0.0, end
        )
    )
