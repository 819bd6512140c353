"""Bayesian upper limits on the POI.

The posterior of the signal strength mu >= 0 is its prior times the likelihood, integrated over the nuisance parameters.
Those have a flat prior within their bounds, times what the auxiliary data say: a normal prior for normsys, histosys,
lumi and staterror, a gamma distribution for shapesys. Every one of them is integrated; none is profiled. The prior of mu
is one of

    flat          1, for mu >= 0
    inverse-sqrt  1/sqrt(mu), what Jeffreys' rule gives for a counting experiment without background

Integrals over up to four nuisance parameters are done by quadrature (_posterior.py, and posterior.py where that is in
difficulties); over more by importance sampling (posterior.py), and where too few even of many of its samples count, by
Markov chains (posterior_sampling.py).

Expected limits are quantiles of the limits of toys: data thrown from the fit of background only. The quantile q is the
smallest of these limits below or at which at least the share q of all toys lies, which is well defined for counts too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.bayesian_counting import bayesian_counting_limits, check_confidence_level
from modelbuilder.inference.compiled_limits import in_parallel, joined
from modelbuilder.inference.posterior import (
    N_BATCHES,
    PRIORS,
    QUADRATURE_NODES,
    Posterior,
    nuisance_parameters,
)
from modelbuilder.inference.results import N_SIGMA, ONE_SIGMA
from modelbuilder.inference.toys import MAX_FAILED, toy_data
from modelbuilder.spec.methods import Prior

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
    from modelbuilder.inference.posterior_sampling import ChainDiagnostics

    Array = NDArray[np.float64]

__all__ = [
    "MAX_QUADRATURE",
    "PRIORS",
    "BayesianBand",
    "BayesianLimit",
    "Marginalisation",
    "Prior",
    "bayesian_counting_limit",
    "bayesian_counting_limits",
    "bayesian_upper_limit",
    "bayesian_upper_limits",
]

Method = Literal["quadrature", "importance-sampling", "mcmc"]
METHODS: tuple[Method, ...] = ("quadrature", "importance-sampling", "mcmc")
Marginalisation = Literal["none", "quadrature", "importance-sampling", "mcmc"]

MAX_QUADRATURE = 4
"""With more nuisance parameters the integral is sampled."""

_CHUNK = 16  # models that a thread takes at a time
_BATCH = 2048  # models that are packed at a time, so that memory does not grow with their number
_LEAST_SAMPLES = 25.0  # effective, per batch
_MORE_SAMPLES = 8  # times as many where too few are effective, which is faster than Markov chains
_DOUBTFUL = 0.01  # relative error of a limit above which it says so ...
_BAD = 0.03  # ... another way is tried ...
_WRONG = 0.1  # ... and there is none


@dataclass(frozen=True, kw_only=True)
class BayesianBand:
    """Where the expected limits come from.

    intervals: of each expected limit, central 68.3%, from the finite number of toys; no upper end is known where it is
    infinite. Toys that failed count as if they were all above, for the upper ends, and all below, for the lower ones.
    """

    intervals: tuple[tuple[float, float], ...]
    n_toys: int
    n_failed: int


@dataclass(frozen=True, kw_only=True)
class BayesianLimit:
    """An upper limit on the POI: the posterior probability below it is `confidence_level`.

    expected: at -2, -1, 0, +1, +2 sigma, for data of background only; None unless exact or from toys.
    band: about those toys; None without.
    n_nuisances: parameters integrated over, in the way that `marginalisation` says.
    relative_error: estimated, of the integrals: from coarser grids, or the standard error of a sample.
    effective_samples: the smallest of all values of mu, of all samples together; None without sampling.
    chains: what tells that Markov chains have converged; None without.
    """

    poi_name: str
    prior: Prior
    confidence_level: float
    observed: float
    expected: tuple[float, ...] | None
    band: BayesianBand | None = None
    marginalisation: Marginalisation
    n_nuisances: int
    relative_error: float
    effective_samples: float | None
    chains: ChainDiagnostics | None = None
    warnings: tuple[str, ...]


def bayesian_counting_limit(
    count: float, background: float, *, signal: float = 1.0, confidence_level: float = 0.9
) -> BayesianLimit:
    """The exact limit of one counting experiment, and its expected band: the counts at these quantiles of the background."""
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
    marginalisation: Method | None = None,
    seed: int = 0,
    n_samples: int = 4096,
    n_toys: int | None = None,
    n_threads: int = 1,
) -> BayesianLimit:
    """The upper limit on the POI from its posterior; raises `FitFailure` where there is none.

    The arguments are those of `bayesian_upper_limits`.
    """
    (limit,) = bayesian_upper_limits(
        [likelihood],
        None if data is None else [data],
        confidence_level=confidence_level,
        prior=prior,
        marginalisation=marginalisation,
        n_threads=n_threads,
        seed=seed,
        n_samples=n_samples,
        n_toys=n_toys,
    )
    if isinstance(limit, FitFailure):
        raise limit
    return limit


def bayesian_upper_limits(
    likelihoods: Sequence[CompiledLikelihood],
    data: Sequence[ArrayLike | None] | None = None,
    *,
    confidence_level: float = 0.9,
    prior: Prior = "flat",
    marginalisation: Method | None = None,
    n_threads: int = 1,
    seed: int = 0,
    n_samples: int = 4096,
    n_toys: int | None = None,
) -> list[BayesianLimit | FitFailure]:
    """A limit for each likelihood, or why there is none; the same bits for any number of threads.

    data: in pyhf order, one set per likelihood, None for the observed ones. A likelihood may occur many times.
    marginalisation: by default what the number of nuisance parameters allows, see above.
    seed: of samples, chains and toys.    n_samples: of importance sampling, shared among eight independent batches;
    eight times as many where too few count.
    n_toys: of the expected limits; None for no expected limits.
    """
    _check(confidence_level, prior, marginalisation, n_toys)
    if data is not None and len(data) != len(likelihoods):
        msg = f"data: found {len(data)} sets for {len(likelihoods)} likelihoods"
        raise ValueError(msg)
    question = _Question(
        confidence_level=confidence_level, prior=prior, method=marginalisation, seed=seed, n_samples=n_samples
    )
    if marginalisation == "quadrature":
        for likelihood in likelihoods:
            n = len(nuisance_parameters(likelihood))
            if n > MAX_QUADRATURE:
                msg = f"marginalisation: quadrature over {n} nuisance parameters; up to {MAX_QUADRATURE} are possible"
                raise ValueError(msg)
    sets = [None] * len(likelihoods) if data is None else data
    found: list[BayesianLimit | FitFailure] = []
    for first in range(0, len(likelihoods), _BATCH):
        found += _batch(question, likelihoods[first : first + _BATCH], sets[first : first + _BATCH], n_threads)
    if n_toys is not None:
        for index, limit in enumerate(found):
            if isinstance(limit, BayesianLimit):
                found[index] = _with_band(question, likelihoods[index], sets[index], limit, n_toys, n_threads)
    return found


@dataclass(frozen=True, kw_only=True)
class _Question:
    confidence_level: float
    prior: Prior
    method: Method | None
    seed: int
    n_samples: int


def _check(confidence_level: float, prior: str, method: str | None, n_toys: int | None) -> None:
    check_confidence_level(confidence_level)
    if prior not in PRIORS:
        msg = f"prior: found {prior!r}; known: {', '.join(PRIORS)}"
        raise ValueError(msg)
    if method is not None and method not in METHODS:
        msg = f"marginalisation: found {method!r}; known: {', '.join(METHODS)}"
        raise ValueError(msg)
    if n_toys is not None and n_toys < 1:
        msg = f"n_toys: found {n_toys}; at least 1 is needed, or None for no expected limits"
        raise ValueError(msg)


def _batch(
    question: _Question,
    likelihoods: Sequence[CompiledLikelihood],
    data: Sequence[ArrayLike | None],
    n_threads: int,
) -> list[BayesianLimit | FitFailure]:
    """The short way for all that it may be open to, then the careful one for what is left."""
    found: list[BayesianLimit | FitFailure | None] = [None] * len(likelihoods)
    if question.method in {None, "quadrature"}:
        short = [index for index, one in enumerate(likelihoods) if len(nuisance_parameters(one)) <= MAX_QUADRATURE]
        limits = _short([likelihoods[index] for index in short], [data[index] for index in short], question, n_threads)
        for index, limit in zip(short, limits, strict=True):
            found[index] = limit
    left = [index for index, limit in enumerate(found) if limit is None]

    def careful(index: int) -> BayesianLimit | FitFailure:
        return _careful(question, likelihoods[index], data[index])

    for index, answer in zip(left, in_parallel(careful, left, n_threads), strict=True):
        found[index] = answer
    return [limit for limit in found if limit is not None]


# -------------------------------------------------------------------------------------------------------- the short way


@functools.cache
def _rules() -> tuple[Array, Array]:
    """Nodes and weights of Gauss and Legendre; row n for n nodes."""
    from modelbuilder.inference._posterior_grid import MAX_NODES

    nodes, weights = np.zeros((MAX_NODES + 1, MAX_NODES)), np.zeros((MAX_NODES + 1, MAX_NODES))
    for n in range(1, MAX_NODES + 1):
        nodes[n, :n], weights[n, :n] = np.polynomial.legendre.leggauss(n)
    return nodes, weights


def _short(
    likelihoods: Sequence[CompiledLikelihood],
    data: Sequence[ArrayLike | None],
    question: _Question,
    n_threads: int,
) -> list[BayesianLimit | None]:
    """Limits by quadrature in a kernel; None where that is in difficulties."""
    if not likelihoods:
        return []
    from modelbuilder.inference._posterior import N_RESULTS, OK, posteriors_packed

    n = len(likelihoods)
    flats = [likelihood._full for likelihood in likelihoods]
    splits = [
        likelihood.split(values)
        if flat is likelihood.flat
        else likelihood._split(flat, likelihood.observed_data if values is None else values)
        for likelihood, flat, values in zip(likelihoods, flats, data, strict=True)
    ]
    integers, integer_starts = joined([flat.integers for flat in flats])
    floats, float_starts = joined([flat.floats for flat in flats])
    counts, count_starts = joined([split.counts for split in splits])
    auxiliary, auxiliary_starts = joined([split.auxiliary for split in splits])
    results, statuses = np.zeros((n, N_RESULTS)), np.zeros(n, dtype=np.int64)
    nodes, weights = _rules()

    def run(first: int) -> None:
        posteriors_packed(
            integers,
            integer_starts,
            floats,
            float_starts,
            counts,
            count_starts,
            auxiliary,
            auxiliary_starts,
            question.prior == "inverse-sqrt",
            question.confidence_level,
            nodes,
            weights,
            first,
            min(first + _CHUNK, n),
            results,
            statuses,
        )

    in_parallel(run, range(0, n, _CHUNK), n_threads)
    found: list[BayesianLimit | None] = []
    for likelihood, row, status in zip(likelihoods, results.tolist(), statuses.tolist(), strict=True):
        observed, error, points = row
        likelihood.counters.points += int(points) if status == OK else 0
        found.append(_limit(question, likelihood, "quadrature", observed, error) if status == OK else None)
    return found


# ------------------------------------------------------------------------------------------------------ the careful way


def _limit(
    question: _Question,
    likelihood: CompiledLikelihood,
    method: Method,
    observed: float,
    error: float,
    effective: float | None = None,
    chains: ChainDiagnostics | None = None,
) -> BayesianLimit:
    n = len(nuisance_parameters(likelihood))
    return BayesianLimit(
        poi_name=likelihood.poi_name,
        prior=question.prior,
        confidence_level=question.confidence_level,
        observed=observed,
        expected=None,
        marginalisation="none" if n == 0 and method != "mcmc" else method,
        n_nuisances=n,
        relative_error=error,
        effective_samples=effective,
        chains=chains,
        warnings=(f"the limit is known to {error:.1g} only",) if error > _DOUBTFUL else (),
    )


def _careful(question: _Question, likelihood: CompiledLikelihood, data: ArrayLike | None) -> BayesianLimit | FitFailure:
    """The first way that works of those that are allowed."""
    ways: list[Method]
    if question.method is not None:
        ways = [question.method]
    elif len(nuisance_parameters(likelihood)) <= MAX_QUADRATURE:
        ways = ["quadrature", "importance-sampling", "mcmc"]
    else:
        ways = ["importance-sampling", "mcmc"]
    failure: FitFailure | None = None
    for way in ways:
        try:
            limit = _WAYS[way](question, likelihood, data)
        except FitFailure as one:
            failure = one
            if one.reason != "sampling-failed":  # then it is not for the integral that there is no limit
                break
            continue
        if limit.relative_error < (_BAD if way != ways[-1] else _WRONG):
            return limit
        failure = FitFailure("integral-not-found", f"{way}: the limit is known to {limit.relative_error:.1g} only")
    assert failure is not None
    return failure


def _by_quadrature(question: _Question, likelihood: CompiledLikelihood, data: ArrayLike | None) -> BayesianLimit:
    posterior = Posterior(likelihood, data, question.prior)
    n = len(posterior.nuisances)
    fine, coarse = (posterior.by_quadrature(QUADRATURE_NODES[n], less) for less in (1.0, 0.75))
    observed = posterior.limit(fine, question.confidence_level)
    error = abs(posterior.limit(coarse, question.confidence_level) / observed - 1.0) if n else 0.0
    return _limit(question, likelihood, "quadrature", observed, error)


def _by_importance(question: _Question, likelihood: CompiledLikelihood, data: ArrayLike | None) -> BayesianLimit:
    posterior = Posterior(likelihood, data, question.prior)
    if not len(posterior.nuisances):
        return _by_quadrature(question, likelihood, data)
    for n_samples in (question.n_samples, _MORE_SAMPLES * question.n_samples):
        batches, effective = posterior.by_sampling(question.seed, max(n_samples // N_BATCHES, 16))
        if effective >= _LEAST_SAMPLES * N_BATCHES:
            break
    else:
        reason = "sampling-failed"
        detail = f"{effective:.0f} effective samples of {n_samples}; at least {_LEAST_SAMPLES * N_BATCHES:.0f} needed"
        raise FitFailure(reason, detail)
    total = np.logaddexp.reduce(batches, axis=0) - math.log(N_BATCHES)
    observed = posterior.limit(total, question.confidence_level)
    each = np.array([posterior.limit(batch, question.confidence_level) for batch in batches])
    error = float(each.std(ddof=1)) / math.sqrt(N_BATCHES) / observed
    return _limit(question, likelihood, "importance-sampling", observed, error, effective)


def _by_chains(question: _Question, likelihood: CompiledLikelihood, data: ArrayLike | None) -> BayesianLimit:
    from modelbuilder.inference.posterior_sampling import limit_from_chains

    observed, error, chains = limit_from_chains(
        likelihood, data, confidence_level=question.confidence_level, prior=question.prior, seed=question.seed
    )
    return _limit(question, likelihood, "mcmc", observed, error, chains.effective_samples, chains)


_WAYS: dict[Method, Callable[[_Question, CompiledLikelihood, ArrayLike | None], BayesianLimit]] = {
    "quadrature": _by_quadrature,
    "importance-sampling": _by_importance,
    "mcmc": _by_chains,
}


# -------------------------------------------------------------------------------------------------------- expected limits


def _with_band(
    question: _Question,
    likelihood: CompiledLikelihood,
    data: ArrayLike | None,
    limit: BayesianLimit,
    n_toys: int,
    n_threads: int,
) -> BayesianLimit | FitFailure:
    try:
        truth = likelihood.fit_fixed_poi(0.0, data).bestfit
    except FitFailure as failure:
        return failure
    toys = toy_data(likelihood, truth, seed=question.seed, hypothesis="background", n_toys=n_toys)
    different, which = np.unique(toys, axis=0, return_inverse=True)  # counts alone are often the same
    limits = np.full(len(different), math.nan)
    for first in range(0, len(different), _BATCH):
        some = different[first : first + _BATCH]
        for index, one in enumerate(_batch(question, [likelihood] * len(some), list(some), n_threads)):
            if isinstance(one, BayesianLimit):
                limits[first + index] = one.observed
    every = limits[which.ravel()]
    n_failed = int(np.count_nonzero(np.isnan(every)))
    if n_failed > MAX_FAILED * n_toys:
        return FitFailure("toys-failed", f"{n_failed} of {n_toys} toys have no limit")
    expected, intervals = toy_quantiles(np.sort(every[~np.isnan(every)]), n_failed)
    warnings = limit.warnings
    if n_failed:
        warnings = (*warnings, f"{n_failed} of {n_toys} toys have no limit; they widen the intervals")
    band = BayesianBand(intervals=intervals, n_toys=n_toys, n_failed=n_failed)
    return replace(limit, expected=expected, band=band, warnings=warnings)


def toy_quantiles(limits: Array, n_failed: int) -> tuple[tuple[float, ...], tuple[tuple[float, float], ...]]:
    """Quantiles at -2 ... +2 sigma of sorted limits, and their central 68.3% intervals from order statistics.

    A quantile q is the smallest limit with at least the share q of all at or below it. How many toys lie below the true
    one is binomial, whatever the distribution is. The interval is open where there are too few toys to end it.
    """
    from scipy.special import ndtr
    from scipy.stats import binom

    n = len(limits)
    expected, intervals = [], []
    for n_sigma in N_SIGMA:
        q = float(ndtr(n_sigma))
        expected.append(float(limits[max(math.ceil(q * n - 1e-9), 1) - 1]))
        low, high = (int(binom.ppf(0.5 * (1.0 + sign * ONE_SIGMA), n + n_failed, q)) for sign in (-1.0, 1.0))
        low -= n_failed  # as if all that failed were below
        intervals.append((float(limits[low - 1]) if low >= 1 else 0.0, float(limits[high]) if high < n else math.inf))
    return tuple(expected), tuple(intervals)
