"""The posterior of the POI, slowly and with care: any number of nuisance parameters, any model.

Where the fast way of _posterior.py cannot go. At each mu the nuisance parameters are integrated around their best fit
there: by Gauss-Legendre quadrature on a grid, or by importance sampling from Student's t distribution with the same random
numbers at every mu. The integral over mu is Gauss-Legendre quadrature in panels.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, get_args

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.spec.methods import Prior

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood, SplitData
    from modelbuilder.inference.flatten import FlatModel
    from modelbuilder.inference.results import FitResult

    Array = NDArray[np.float64]

PRIORS: tuple[Prior, ...] = get_args(Prior)

QUADRATURE_NODES = {0: 1, 1: 56, 2: 44, 3: 30, 4: 18}
"""Per nuisance parameter, by their number; a third of it per piece of one that is cut where interpolation changes."""

N_BATCHES = 8
"""Independent batches of samples."""

_PANELS = 5
_MU_NODES = 16
_FAR = 50.0  # of -2 ln L above its minimum: of e^-25 nothing is left ...
_NEARLY_NOTHING = 12.0  # ... and beyond e^-6 lies 5e-4 of a normal posterior, which need not be known well
_FREEDOM = 4.0
"""Degrees of freedom of the distribution that samples come from. Beside the tails of a gamma distribution those of a normal
one are so thin that weights have no variance: limits came out 1 to 2 % low, with errors of 0.2 %."""


def twice_nll_at(flat: FlatModel, split: SplitData, points: Array) -> Array:
    """-2 ln L, less its constant, at each row of `points`; infinite where the data are impossible."""
    from modelbuilder.inference._marginal import values_packed

    values = np.empty(len(points))
    values_packed(flat.integers, flat.floats, split.counts, split.auxiliary, split.local_auxiliary, points, values)
    return values


def covariance_of(hessian: Array, widths: Array, *, smallest: float) -> Array:
    """From the Hessian of -2 ln L; no wider than `widths`, about as a flat prior of that width would have it.

    smallest: eigenvalue of the Hessian scaled to a unit diagonal; below it a direction is cut.
    """
    inner = 0.5 * hessian
    scale = 1.0 / np.sqrt(np.maximum(np.diag(inner), 1.0 / widths**2))
    values, vectors = np.linalg.eigh(inner * np.outer(scale, scale))
    covariance: Array = (vectors / np.maximum(values, smallest)) @ vectors.T * np.outer(scale, scale)
    return covariance


def nuisance_parameters(likelihood: CompiledLikelihood) -> NDArray[np.int64]:
    """Numbers of the parameters to integrate over."""
    poi = likelihood.poi_index
    return np.array(
        [i for i, p in enumerate(likelihood.parameters) if i != poi and not p.fixed and p.upper > p.lower],
        dtype=np.int64,
    )


class Posterior:
    """ln of the marginal likelihood at Gauss-Legendre nodes of mu (of its root, for a prior 1/sqrt(mu))."""

    def __init__(self, likelihood: CompiledLikelihood, data: ArrayLike | None, prior: Prior) -> None:
        self._likelihood = likelihood
        self._data = np.array(likelihood.observed_data if data is None else data, dtype=float)
        self._flat = likelihood._full
        self._split = likelihood._split(self._flat, self._data)
        self._rooted = prior == "inverse-sqrt"
        parameters = likelihood.parameters
        self.nuisances = nuisance_parameters(likelihood)
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
        return twice_nll_at(self._flat, self._split, points)

    def _covariance(self, fit: FitResult) -> Array:
        """Of the nuisance parameters at fixed mu, from the curvature; no wider than their bounds."""
        hessian = self._likelihood.derivatives(fit.bestfit, self._data).hessian
        inner = hessian[np.ix_(self.nuisances, self.nuisances)]
        return covariance_of(inner, self._upper - self._lower, smallest=1e-6)

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
        """ln of the integral at each mu, one row per batch; the smallest effective number of all samples.

        An eighth of the samples where the profile is so far down that next to nothing of the posterior is there.
        """
        n = len(self.nuisances)
        rng = np.random.default_rng(seed)
        half = rng.standard_normal((N_BATCHES, (n_samples + 1) // 2, n))
        half *= np.sqrt(_FREEDOM / rng.chisquare(_FREEDOM, (*half.shape[:2], 1)))
        few = half[:, : max(half.shape[1] // 8, 8)]
        every, some = (_with_log_density(np.concatenate([one, -one], axis=1)) for one in (half, few))
        logs = np.empty((N_BATCHES, len(self._mus)))
        fits = [self._fit(mu) for mu in self._mus.tolist()]
        lowest = min(one.twice_nll for one in self._fits.values())
        smallest = math.inf
        for k, fit in enumerate(fits):
            is_far = fit.twice_nll - lowest > _NEARLY_NOTHING
            drawn, log_density = some if is_far else every
            point = np.array(fit.bestfit)
            base = float(self._values(point[None, :])[0])
            factor = np.linalg.cholesky(self._covariance(fit))
            moved = point[self.nuisances] + drawn @ factor.T
            inside = ((moved >= self._lower) & (moved <= self._upper)).all(axis=2)
            points = np.tile(point, (moved.shape[0] * moved.shape[1], 1))
            points[:, self.nuisances] = np.clip(moved, self._lower, self._upper).reshape(-1, n)
            values = self._values(points).reshape(inside.shape)
            weights = np.where(inside, np.exp(np.minimum(-0.5 * (values - base) - log_density, 700.0)), 0.0)
            sums = weights.sum(axis=1)
            if not (sums > 0.0).all():
                reason = "sampling-failed"
                detail = f"no sample is possible at {self._likelihood.poi_name} = {fit.poi_value:.6g}"
                raise FitFailure(reason, detail)
            # where the density itself is nothing, its precision does not matter
            if not is_far:
                smallest = min(smallest, float(weights.sum()) ** 2 / float((weights**2).sum()))
            scale = float(np.log(np.diag(factor)).sum())
            logs[:, k] = np.log(sums / weights.shape[1]) + scale - 0.5 * base
        return logs, smallest


def _with_log_density(drawn: Array) -> tuple[Array, Array]:
    """Samples of Student's t, the last axis their parameters, and the ln of its density there, less a constant."""
    squared = np.einsum("bsi,bsi->bs", drawn, drawn)
    return drawn, -0.5 * (_FREEDOM + drawn.shape[2]) * np.log1p(squared / _FREEDOM)
