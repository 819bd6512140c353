"""The limit that is asked for: by any method, asymptotic or with toys, on whichever likelihood a workspace allows."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast, get_args

from modelbuilder.errors import FitFailure, UnusableNumberError, WorkspaceError
from modelbuilder.inference.asymptotic import AsymptoticCalculator, discovery_from
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.compiled_limits import compiled_upper_limit, compiled_upper_limits, in_parallel
from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood
from modelbuilder.inference.results import LimitMethod

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from modelbuilder.inference.bayesian import BayesianLimit
    from modelbuilder.inference.results import Discovery, UpperLimit
    from modelbuilder.spec.methods import Method, Prior

_WITH_TEST_STATISTIC = get_args(LimitMethod)


@dataclass(frozen=True, kw_only=True)
class LimitRequest:
    """How a limit is to be found.

    toys: per hypothesis, in place of asymptotic formulas; for feldman-cousins None is as many as its precision needs.
    only_where_doubtful: those toys are for models whose asymptotic limit says of itself that it is doubtful.
    prior, band_toys: of a Bayesian limit; without toys it has no expected band.    seed: of toys and samples.    n_threads: change no bit.
    """

    method: Method
    confidence_level: float
    toys: int | None = None
    only_where_doubtful: bool = False
    prior: Prior = "flat"
    band_toys: int | None = None
    seed: int = 1
    n_threads: int = 1


@dataclass(frozen=True, kw_only=True)
class FoundLimit:
    """An upper limit by any method.

    expected: at -2, -1, 0, +1, +2 sigma; None where the method has no band.
    discovery: the asymptotic test of the background-only hypothesis, with the best fit.
    details: what only some methods have, as JSON takes it.
    """

    observed: float
    expected: tuple[float, ...] | None
    discovery: Discovery
    warnings: tuple[str, ...]
    details: Mapping[str, Any]


def open_likelihood(
    workspace: Mapping[str, Any], patches: Sequence[Sequence[Mapping[str, Any]]] | None = None
) -> tuple[CompiledLikelihood | PyhfLikelihood, tuple[str, ...]]:
    """The likelihood of a workspace; and a warning, if it is not the compiled one.

    Raises `WorkspaceError` for what pyhf cannot use either.
    """
    try:
        return CompiledLikelihood(workspace, patches=patches), ()
    except UnusableNumberError:
        raise  # pyhf would go on, with NaN
    except WorkspaceError as error:
        likelihood = PyhfLikelihood(workspace, patches=patches)
        return likelihood, (f"not compiled, but fitted with pyhf, which is slow: {error}",)


def open_likelihoods(
    workspaces: Sequence[Mapping[str, Any]], patches: Sequence[Sequence[Sequence[Mapping[str, Any]]]]
) -> list[tuple[CompiledLikelihood | PyhfLikelihood, tuple[str, ...]] | WorkspaceError]:
    """`open_likelihood` of each, or what is wrong with it; the compiled ones are made together."""
    found: list[tuple[CompiledLikelihood | PyhfLikelihood, tuple[str, ...]] | WorkspaceError] = []
    for workspace, patch, likelihood in zip(
        workspaces, patches, CompiledLikelihood.many(workspaces, patches), strict=True
    ):
        if isinstance(likelihood, CompiledLikelihood):
            found.append((likelihood, ()))
            continue
        try:
            found.append(open_likelihood(workspace, patch))
        except WorkspaceError as error:
            found.append(error)
    return found


def find_limits(
    likelihoods: Sequence[CompiledLikelihood | PyhfLikelihood], request: LimitRequest
) -> list[FoundLimit | FitFailure | WorkspaceError]:
    """`find_limit` of each, or why there is none; the asymptotic ones of compiled likelihoods together."""
    found: list[FoundLimit | FitFailure | WorkspaceError | None] = [None] * len(likelihoods)
    if request.method in _WITH_TEST_STATISTIC and request.toys is None:
        compiled = [
            (place, likelihood)
            for place, likelihood in enumerate(likelihoods)
            if isinstance(likelihood, CompiledLikelihood)
        ]
        limits = compiled_upper_limits(
            [likelihood for _, likelihood in compiled],
            method=cast("LimitMethod", request.method),
            confidence_level=request.confidence_level,
            n_threads=request.n_threads,
        )
        for (place, _), limit in zip(compiled, limits, strict=True):
            found[place] = limit if isinstance(limit, FitFailure) else _found(limit)

    left = [place for place, limit in enumerate(found) if limit is None]
    single = request if len(left) == 1 else replace(request, n_threads=1)  # all threads for the toys of one

    def find(place: int) -> None:
        try:
            found[place] = find_limit(likelihoods[place], single)
        except (FitFailure, WorkspaceError) as error:
            found[place] = error

    in_parallel(find, left, request.n_threads)
    return [limit for limit in found if limit is not None]


def _found(limit: UpperLimit) -> FoundLimit:
    discovery = discovery_from(limit.poi_name, limit.q0, limit.poi_hat, fits=limit.fits, evaluations=limit.evaluations)
    return FoundLimit(
        observed=limit.observed, expected=limit.expected, discovery=discovery, warnings=limit.warnings, details={}
    )


def find_limit(
    likelihood: CompiledLikelihood | PyhfLikelihood,
    request: LimitRequest,
    *,
    calculator: AsymptoticCalculator | None = None,
    counts: Sequence[float] | None = None,
) -> FoundLimit:
    """The limit on the observed data.

    calculator: of this likelihood, if there is one already, with what it has found so far.    counts: of background
    alone at -2 ... +2 sigma, if there is one bin: feldman-cousins then has expected limits, those of these counts.
    Raises `FitFailure` where there is no limit, and `WorkspaceError` where the method needs the compiled likelihood.
    """
    calculator = calculator or AsymptoticCalculator(likelihood)
    if request.method in _WITH_TEST_STATISTIC:
        method = cast("LimitMethod", request.method)
        if request.toys is None or request.only_where_doubtful:
            limit = _asymptotic(likelihood, calculator, method, request.confidence_level)
            if request.toys is None or not limit.asymptotics_doubtful:
                return _found(limit)
        return _toys(_compiled(likelihood, f"{method} with toys"), calculator, method, request)
    if request.method == "bayesian":
        return _bayesian(_compiled(likelihood, request.method), calculator, request)
    return _feldman_cousins(_compiled(likelihood, request.method), calculator, request, counts)


def _compiled(likelihood: CompiledLikelihood | PyhfLikelihood, what: str) -> CompiledLikelihood:
    if isinstance(likelihood, CompiledLikelihood):
        return likelihood
    msg = f"{what}: needs a workspace that can be compiled"
    raise WorkspaceError(msg)


def _asymptotic(
    likelihood: CompiledLikelihood | PyhfLikelihood,
    calculator: AsymptoticCalculator,
    method: LimitMethod,
    confidence_level: float,
) -> UpperLimit:
    if isinstance(likelihood, CompiledLikelihood):
        return compiled_upper_limit(likelihood, method=method, confidence_level=confidence_level)
    return calculator.upper_limit(method=method, confidence_level=confidence_level)


def _toys(
    likelihood: CompiledLikelihood, calculator: AsymptoticCalculator, method: LimitMethod, request: LimitRequest
) -> FoundLimit:
    from modelbuilder.inference.toys import ToyCalculator

    toys = ToyCalculator(likelihood, seed=request.seed, n_toys=request.toys, n_threads=request.n_threads)
    limit = toys.upper_limit(method=method, confidence_level=request.confidence_level)
    return FoundLimit(
        observed=limit.observed.value,
        expected=tuple(estimate.value for estimate in limit.expected),
        discovery=calculator.discovery(),
        warnings=limit.warnings,
        details={
            "observed_interval": [limit.observed.lower, limit.observed.upper],
            "expected_intervals": [[estimate.lower, estimate.upper] for estimate in limit.expected],
            "toys": limit.n_toys,
            "failed_toys": limit.n_failed,
        },
    )


def _bayesian(likelihood: CompiledLikelihood, calculator: AsymptoticCalculator, request: LimitRequest) -> FoundLimit:
    from modelbuilder.inference.bayesian import bayesian_upper_limit

    limit = bayesian_upper_limit(
        likelihood,
        confidence_level=request.confidence_level,
        prior=request.prior,
        seed=request.seed,
        n_toys=request.band_toys,
        n_threads=request.n_threads,
    )
    return bayesian_found(limit, calculator.discovery())


def bayesian_found(limit: BayesianLimit, discovery: Discovery) -> FoundLimit:
    """A Bayesian limit as that of any method."""
    details: dict[str, Any] = {
        "prior": limit.prior,
        "marginalisation": limit.marginalisation,
        "relative_error": limit.relative_error,
    }
    if limit.band is not None:
        edges = [[low, high if math.isfinite(high) else None] for low, high in limit.band.intervals]
        details |= {"expected_intervals": edges, "toys": limit.band.n_toys, "failed_toys": limit.band.n_failed}
    return FoundLimit(
        observed=limit.observed,
        expected=limit.expected,
        discovery=discovery,
        warnings=limit.warnings,
        details=details,
    )


def _feldman_cousins(
    likelihood: CompiledLikelihood,
    calculator: AsymptoticCalculator,
    request: LimitRequest,
    counts: Sequence[float] | None,
) -> FoundLimit:
    from modelbuilder.inference.feldman_cousins import FeldmanCousinsInterval, feldman_cousins

    observation = likelihood.observed_data
    found: dict[float, FeldmanCousinsInterval] = {}

    def interval_of(count: float) -> FeldmanCousinsInterval:
        """With auxiliary data as they are."""
        if count not in found:
            found[count] = feldman_cousins(
                likelihood,
                [count, *observation[1:]],
                seed=request.seed,
                confidence_level=request.confidence_level,
                n_toys=request.toys,
                n_threads=request.n_threads,
            )
        return found[count]

    interval = interval_of(float(observation[0]))
    warnings = interval.warnings
    if interval.lower.value > 0.0:
        warnings = (*warnings, f"the interval does not contain 0: it begins at {interval.lower.value:.6g}")
    expected = None if counts is None else tuple(interval_of(count).upper.value for count in counts)
    return FoundLimit(
        observed=interval.upper.value,
        expected=expected,
        discovery=calculator.discovery(),
        warnings=warnings,
        details={
            "observed_interval": [interval.upper.lower, interval.upper.upper],
            "observed_lower_edge": interval.lower.value,
            "toys": interval.n_toys,
        },
    )
