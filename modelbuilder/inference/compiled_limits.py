"""Upper limits of compiled likelihoods, in one call for any number of them: many mass points, many sets of data.

The same answers as `AsymptoticCalculator`, which is asked where the short way is in difficulties: it has the whole
retry ladder, and knows the names of failures.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from modelbuilder.errors import FitFailure
from modelbuilder.inference.asymptotic import AsymptoticCalculator, expected_target, warnings_for
from modelbuilder.inference.results import N_SIGMA, LimitMethod, UpperLimit, check_limit

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from modelbuilder.inference.compiled_likelihood import CompiledLikelihood, SplitData

    Array = NDArray[np.float64]
    Index = NDArray[np.int64]

_MOST_AT_ONCE = 64  # models that a thread takes
_PARTS = 4  # of the work of each thread, so that they end at about the same time
_AGREEMENT = 1e-4  # relative, of sqrt(qA) at a limit with its definition; ten times as much of the p-value
_BATCH = 2048  # models that are packed at a time, so that memory does not grow with their number


def compiled_upper_limit(
    likelihood: CompiledLikelihood,
    data: ArrayLike | None = None,
    *,
    method: LimitMethod = "cls",
    confidence_level: float = 0.95,
) -> UpperLimit:
    """One observed limit and its expected band; raises `FitFailure` where there is none."""
    (limit,) = compiled_upper_limits(
        [likelihood], None if data is None else [data], method=method, confidence_level=confidence_level, n_threads=1
    )
    if isinstance(limit, FitFailure):
        raise limit
    return limit


def compiled_upper_limits(
    likelihoods: Sequence[CompiledLikelihood],
    data: Sequence[ArrayLike | None] | None = None,
    *,
    method: LimitMethod = "cls",
    confidence_level: float = 0.95,
    n_threads: int = 1,
) -> list[UpperLimit | FitFailure]:
    """A limit for each likelihood, or why there is none; the same bits for any number of threads.

    data: in pyhf order, one per likelihood, None for the observed ones. A likelihood may occur many times.
    """
    check_limit(method, confidence_level)
    if data is not None and len(data) != len(likelihoods):
        msg = f"data: found {len(data)} sets for {len(likelihoods)} likelihoods"
        raise ValueError(msg)
    found: list[UpperLimit | FitFailure] = []
    for first in range(0, len(likelihoods), _BATCH):
        some = likelihoods[first : first + _BATCH]
        sets = [None] * len(some) if data is None else data[first : first + _BATCH]
        found += _batch(some, sets, method, confidence_level, n_threads)
    return found


def _batch(
    likelihoods: Sequence[CompiledLikelihood],
    data: Sequence[ArrayLike | None],
    method: LimitMethod,
    confidence_level: float,
    n_threads: int,
) -> list[UpperLimit | FitFailure]:
    from scipy.special import ndtri

    from modelbuilder.inference._limits import N_RESULTS, OK, limits_packed

    n = len(likelihoods)
    alpha = 1.0 - confidence_level
    targets = np.array([expected_target(method, alpha, n_sigma) for n_sigma in N_SIGMA])
    splits: list[SplitData] = [likelihood.split(values) for likelihood, values in zip(likelihoods, data, strict=True)]
    integers, integer_starts = joined([likelihood.flat.integers for likelihood in likelihoods])
    floats, float_starts = joined([likelihood.flat.floats for likelihood in likelihoods])
    counts, count_starts = joined([split.counts for split in splits])
    auxiliary, auxiliary_starts = joined([split.auxiliary for split in splits])
    local_auxiliary, local_starts = joined([split.local_auxiliary for split in splits])
    results, statuses = np.zeros((n, N_RESULTS)), np.zeros(n, dtype=np.int64)
    work = np.zeros((n, 2), dtype=np.int64)
    quantile = -float(ndtri(alpha))

    chunk = max(1, min(_MOST_AT_ONCE, n // (_PARTS * n_threads)))

    def run(first: int) -> None:
        last = min(first + chunk, n)
        limits_packed(
            integers,
            integer_starts,
            floats,
            float_starts,
            counts,
            count_starts,
            auxiliary,
            auxiliary_starts,
            local_auxiliary,
            local_starts,
            method == "cls",
            alpha,
            quantile,
            targets,
            first,
            last,
            results,
            statuses,
            work,
        )

    in_parallel(run, range(0, n, chunk), n_threads)
    found: list[UpperLimit | FitFailure | None] = []
    difficult: dict[int, list[int]] = {}  # by likelihood: its counters are for one thread
    for place, (likelihood, row, status, done) in enumerate(
        zip(likelihoods, results.tolist(), statuses.tolist(), work.tolist(), strict=True)
    ):
        fits, evaluations = done
        likelihood.counters.fits += fits
        likelihood.counters.evaluations += evaluations
        likelihood.counters.points += evaluations
        if status == OK and _is_ordered(row[1:6]):
            found.append(_limit(likelihood, row, method, confidence_level, fits, evaluations))
        else:
            found.append(None)
            difficult.setdefault(id(likelihood), []).append(place)

    def be_careful(places: list[int]) -> None:
        for place in places:
            found[place] = _careful(likelihoods[place], data[place], method, confidence_level, *work[place].tolist())

    in_parallel(be_careful, list(difficult.values()), n_threads)
    return [limit for limit in found if limit is not None]


def _limit(
    likelihood: CompiledLikelihood,
    row: list[float],
    method: LimitMethod,
    confidence_level: float,
    fits: int,
    evaluations: int,
) -> UpperLimit:
    observed, *expected, poi_hat, events, q0 = row
    m2, m1, median, p1, p2 = expected
    warnings = warnings_for(events)
    return UpperLimit(
        poi_name=likelihood.poi_name,
        method=method,
        confidence_level=confidence_level,
        observed=observed,
        expected=(m2, m1, median, p1, p2),
        poi_hat=poi_hat,
        q0=q0,
        effective_background_events=events,
        asymptotics_doubtful=bool(warnings),
        warnings=warnings,
        fits=fits,
        evaluations=evaluations,
    )


def _careful(
    likelihood: CompiledLikelihood,
    data: ArrayLike | None,
    method: LimitMethod,
    confidence_level: float,
    fits: int,
    evaluations: int,
) -> UpperLimit | FitFailure:
    try:
        limit = AsymptoticCalculator(likelihood, data).upper_limit(method=method, confidence_level=confidence_level)
        if likelihood.flat.may_have_several_minima:
            _verify(likelihood, data, limit)
    except FitFailure as failure:
        return failure
    return replace(limit, fits=limit.fits + fits, evaluations=limit.evaluations + evaluations)


def _verify(likelihood: CompiledLikelihood, data: ArrayLike | None, limit: UpperLimit) -> None:
    """Search for lower minima than the limit was found with, from starts of its own, at each value it consists of.

    Raises FitFailure where there are some.
    """
    for what, poi in _found_wrong(likelihood, data, limit):
        detail = f"-2 ln L has several minima, and the {what} limit, {poi:.6g}, was not found with the lowest"
        reason = "several-minima"
        raise FitFailure(reason, detail)


def _found_wrong(
    likelihood: CompiledLikelihood, data: ArrayLike | None, limit: UpperLimit
) -> Iterator[tuple[str, float]]:
    from scipy.special import log_ndtr

    alpha = 1.0 - limit.confidence_level
    null = likelihood.search_fixed_poi(0.0, data)
    asimov = likelihood.asimov_data(null.bestfit)
    best_asimov = likelihood.search_fixed_poi(0.0, asimov).twice_nll

    def q_asimov(poi: float) -> float:
        return max(likelihood.search_fixed_poi(poi, asimov).twice_nll - best_asimov, 0.0)

    for n_sigma, poi in zip(N_SIGMA, limit.expected, strict=True):
        target = expected_target(limit.method, alpha, n_sigma)
        if poi > 0.0 and abs(math.sqrt(q_asimov(poi)) - target) > _AGREEMENT * target:
            yield f"expected ({n_sigma:+d} sigma)", poi
    if not _is_ordered(limit.expected):
        yield "median expected", limit.expected[2]
    if limit.observed > 0.0:
        best = min(likelihood.fit(data, poi_lower=0.0).twice_nll, null.twice_nll)
        q = max(likelihood.search_fixed_poi(limit.observed, data).twice_nll - best, 0.0)
        qa = q_asimov(limit.observed)
        root = math.sqrt(qa)
        deviate = math.sqrt(q) if q <= qa else 0.5 * (q + qa) / max(root, 1e-300)
        level = float(log_ndtr(-deviate)) - (float(log_ndtr(root - deviate)) if limit.method == "cls" else 0.0)
        if abs(level - math.log(alpha)) > 10.0 * _AGREEMENT:
            yield "observed", limit.observed


def _is_ordered(expected: Sequence[float]) -> bool:
    return all(low <= high for low, high in itertools.pairwise(expected))


_Item = TypeVar("_Item")
_Answer = TypeVar("_Answer")


def in_parallel(work: Callable[[_Item], _Answer], items: Sequence[_Item], n_threads: int) -> list[_Answer]:
    """What the work gives for each item, by so many threads."""
    if n_threads == 1 or len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(work, items))


_Number = TypeVar("_Number", np.float64, np.int64)


def joined(arrays: Sequence[NDArray[_Number]]) -> tuple[NDArray[_Number], Index]:
    """One behind the other, and where each begins."""
    starts = np.zeros(len(arrays) + 1, dtype=np.int64)
    np.cumsum([len(array) for array in arrays], out=starts[1:])
    return (np.concatenate(arrays) if len(arrays) > 1 else arrays[0]), starts
