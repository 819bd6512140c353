"""The posterior of the POI and the nuisance parameters by Markov chains: where nothing else knows its shape.

The sampler is emcee (arXiv:1202.3665): walkers that learn from each other how the posterior is correlated, here with
steps along the difference of two others (ter Braak, Stat. Comput. 16 (2006) 239). Some ensembles of walkers run on their
own; they are believed when each is many autocorrelation times long and all their halves agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.posterior import covariance_of, nuisance_parameters, twice_nll_at

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.spec.methods import Prior

    Array = NDArray[np.float64]

N_ENSEMBLES = 4
MOST_R_HAT = 1.01
LEAST_LENGTH = 50.0
"""Steps that are kept, in autocorrelation times: with fewer of them, that time itself is not known."""

LEAST_EFFECTIVE = 4000.0
_FIRST_STEPS = 1000
_MOST_STEPS = 32_000
_BLOCK = 500  # steps between which the chain is thrown away, but for the POI


@dataclass(frozen=True, kw_only=True)
class ChainDiagnostics:
    """Whether the chains of all ensembles tell the same.

    steps: of each ensemble, its first half (burn-in) included.    autocorrelation: integrated time of the POI, in steps.
    r_hat: square root of the variance between halves of ensembles and within, over that within; 1 when they agree
    (Gelman and Rubin, Stat. Sci. 7 (1992) 457).    effective_samples: of all ensembles together.
    """

    steps: int
    walkers: int
    autocorrelation: float
    r_hat: float
    effective_samples: float

    @property
    def converged(self) -> bool:
        return (
            0.5 * self.steps >= LEAST_LENGTH * self.autocorrelation
            and self.r_hat <= MOST_R_HAT
            and self.effective_samples >= LEAST_EFFECTIVE
        )


def limit_from_chains(
    likelihood: CompiledLikelihood,
    data: ArrayLike | None,
    *,
    confidence_level: float,
    prior: Prior,
    seed: int,
    most_steps: int = _MOST_STEPS,
) -> tuple[float, float, ChainDiagnostics]:
    """The upper limit, its relative standard error, and the diagnostics; `FitFailure` unless the chains converge."""
    target = _Target(likelihood, data, prior)
    ensembles = [_Ensemble(target, seed, number) for number in range(N_ENSEMBLES)]
    steps = _FIRST_STEPS
    while True:
        for ensemble in ensembles:
            ensemble.run(min(steps, most_steps))
        mus = np.stack([ensemble.pois() for ensemble in ensembles])
        found = diagnose(mus)
        if found.converged:
            break
        if steps >= most_steps:
            reason = "sampling-not-converged"
            detail = (
                f"after {found.steps} steps of {N_ENSEMBLES} x {found.walkers} walkers: autocorrelation time"
                f" {found.autocorrelation:.0f} steps (at most {0.5 * found.steps / LEAST_LENGTH:.0f} can be believed),"
                f" R-hat {found.r_hat:.3f} (at most {MOST_R_HAT}), {found.effective_samples:.0f} effective samples"
                f" (at least {LEAST_EFFECTIVE:.0f})"
            )
            raise FitFailure(reason, detail)
        steps *= 2
    limit, error = quantile_with_error(mus, confidence_level)
    return limit, error / limit, found


def diagnose(chains: Array) -> ChainDiagnostics:
    """Of one quantity; shape (n_ensembles, n_steps, n_walkers), without what was burnt in."""
    n_ensembles, n_steps, n_walkers = chains.shape
    time = max(_autocorrelation(chain) for chain in chains)
    half = n_steps // 2
    halves = np.concatenate([chains[:, :half], chains[:, half : 2 * half]]).reshape(2 * n_ensembles, -1)
    within = float(np.mean(np.var(halves, axis=1)))
    between = float(np.var(np.mean(halves, axis=1), ddof=1))
    return ChainDiagnostics(
        steps=2 * n_steps,
        walkers=n_walkers,
        autocorrelation=time,
        r_hat=math.sqrt(1.0 + between / within) if within > 0.0 else math.inf,
        effective_samples=n_ensembles * n_steps * n_walkers / time,
    )


def quantile_with_error(chains: Array, level: float) -> tuple[float, float]:
    """Quantile of all samples and its standard error: that of the share below it, over the density there.

    The share of each ensemble is independent of the others; their spread is used where it is the larger one.
    """
    limit = float(np.quantile(chains, level))
    below = (chains <= limit).astype(float)
    time = max(_autocorrelation(chain) for chain in below)
    shares = below.mean(axis=(1, 2))
    error = max(
        math.sqrt(level * (1.0 - level) * time / below.size),
        float(np.std(shares, ddof=1)) / math.sqrt(len(shares)),
    )
    step = max(2.0 * error, 0.02 * (1.0 - level), 1e-6)
    low, high = np.quantile(chains, [max(level - step, 0.0), min(level + step, 1.0)])
    width = min(level + step, 1.0) - max(level - step, 0.0)
    return limit, error * float(high - low) / width


def _autocorrelation(chain: Array) -> float:
    """Integrated time, in steps; shape (n_steps, n_walkers)."""
    from emcee.autocorr import integrated_time

    if not np.var(chain) > 0.0:
        return math.inf
    return max(float(integrated_time(chain[:, :, None], tol=0)[0]), 1.0)


class _Target:
    """ln of the posterior at many points at once: mu, then the nuisance parameters."""

    def __init__(self, likelihood: CompiledLikelihood, data: ArrayLike | None, prior: Prior) -> None:
        values = np.array(likelihood.observed_data if data is None else data, dtype=float)
        self._flat = likelihood._full
        self._split = likelihood._split(self._flat, values)
        self._rooted = prior == "inverse-sqrt"
        self.moving = np.concatenate([[likelihood.poi_index], nuisance_parameters(likelihood)]).astype(np.int64)
        parameters = likelihood.parameters
        self.lower = np.array([0.0, *(parameters[i].lower for i in self.moving[1:])])
        self.upper = np.array([math.inf, *(parameters[i].upper for i in self.moving[1:])])
        best = likelihood.fit(values, poi_lower=0.0)
        self._point = np.array(best.bestfit)
        self.best = self._point[self.moving]
        self.covariance = self._rough_covariance(likelihood, values)

    def _rough_covariance(self, likelihood: CompiledLikelihood, data: Array) -> Array:
        """From the curvature at the best fit; only for where the walkers start."""
        expansion = likelihood.derivatives(self._point.tolist(), data)
        width = self.upper - self.lower
        slope = abs(float(expansion.gradient[likelihood.poi_index]))
        width[0] = 2.0 / slope if slope > 0.0 else max(10.0 * self.best[0], 1.0)
        return covariance_of(expansion.hessian[np.ix_(self.moving, self.moving)], width, smallest=1e-3)

    def __call__(self, moved: Array) -> Array:
        inside = ((moved >= self.lower) & (moved <= self.upper)).all(axis=1)
        points = np.tile(self._point, (len(moved), 1))
        points[:, self.moving] = np.clip(moved, self.lower, self.upper)
        values = twice_nll_at(self._flat, self._split, points)
        logs = np.where(inside & np.isfinite(values), -0.5 * values, -math.inf)
        if self._rooted:
            logs -= 0.5 * np.log(np.maximum(points[:, self.moving[0]], 1e-300))
        return logs


class _Ensemble:
    """Walkers that run together; every number follows from (seed, number)."""

    def __init__(self, target: _Target, seed: int, number: int) -> None:
        from emcee import EnsembleSampler, State
        from emcee.moves import DEMove, StretchMove

        n = len(target.moving)
        self._n_walkers = max(2 * (n + 1), 24)
        rng = np.random.default_rng([seed, number])
        # not DESnookerMove: emcee 3.1.6 accepts with the square root of the factor it needs, which shifts limits by 3%
        moves = [(DEMove(), 0.7), (StretchMove(), 0.3)]
        self._sampler: Any = EnsembleSampler(self._n_walkers, n, target, moves=moves, vectorize=True)
        random_state = np.random.MT19937(np.random.SeedSequence([seed, number])).state
        self._state: Any = State(_first_positions(target, self._n_walkers, rng), random_state=random_state)
        self._pois: list[Array] = []
        self._steps = 0

    def run(self, steps: int) -> None:
        """On to `steps` in all."""
        while self._steps < steps:
            n = min(_BLOCK, steps - self._steps)
            self._state = self._sampler.run_mcmc(self._state, n)
            self._pois.append(self._sampler.get_chain()[:, :, 0].copy())
            self._sampler.reset()
            self._steps += n

    def pois(self) -> Array:
        """The signal strength, of the second half of all steps; shape (n_steps, n_walkers)."""
        every: Array = np.concatenate(self._pois)
        return every[len(every) // 2 :]


def _first_positions(target: _Target, n_walkers: int, rng: np.random.Generator) -> Array:
    """Around the best fit, wider than the posterior, at points that are possible."""
    factor = np.linalg.cholesky(target.covariance)
    n = len(target.best)
    found: list[Array] = []
    scale = 1.5
    for _ in range(200):
        moved = target.best + scale * rng.standard_normal((4 * n_walkers, n)) @ factor.T
        # bounds are mirrors; what lies beyond two of them is drawn again
        moved = np.where(moved < target.lower, 2.0 * target.lower - moved, moved)
        moved = np.where(moved > target.upper, 2.0 * target.upper - moved, moved)
        found += list(moved[np.isfinite(target(moved))])
        if len(found) >= n_walkers:
            return np.array(found[:n_walkers])
        scale *= 0.9
    reason, detail = "sampling-failed", "no points around the best fit at which the data are possible"
    raise FitFailure(reason, detail)
