"""What is published, compared with what was run: read back from the files, likelihood by likelihood.

The compiled likelihood compares every point; pyhf a few of them, in its own words: schema, digests and patches applied.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import BundleError, FitFailure
from modelbuilder.inference.choice import LimitRequest, find_limit, open_likelihood
from modelbuilder.inference.workspace_schema import is_plainly_valid
from modelbuilder.publish.finished_run import FinishedRun
from modelbuilder.publish.likelihoods import BACKGROUND, PATCHSET, Region, digests, in_order, operations_of
from modelbuilder.scan.table import BANDS
from modelbuilder.workspace.files import read_json

if TYPE_CHECKING:
    from modelbuilder.inference.likelihood import Likelihood, Parameter

TOLERANCE = 1e-10
"""On -2 ln L, relative; and on the settings of every parameter."""
LIMIT_TOLERANCE = 1e-6
N_PYHF = 5
"""Points, and regions, that pyhf checks; it takes ten times as long as all the rest."""
N_LIMITS = 100
"""Points whose limits are found again."""
_ASYMPTOTIC = ("cls", "profile-likelihood")
_NAME = re.compile(r"[a-zA-Z0-9_]+")
_SPREAD = 0.7  # standard deviations: how far the parameters are moved
_FREE = 0.2  # the same for free parameters, relative to their initial value


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What was compared, and the largest differences: of -2 ln L, and of limits, both relative."""

    points: int
    largest_difference: float
    pyhf_points: int
    limits: int
    largest_limit_difference: float

    def lines(self) -> Iterator[str]:
        yield (
            f"{self.points} patches applied; -2 ln L agrees with the workspaces of the run to {self.largest_difference:.1e}"
            f" ({self.pyhf_points} of them with pyhf too)"
        )
        if self.limits:
            yield f"{self.limits} limits found again from the bundle agree to {self.largest_limit_difference:.1e}"


def verify_likelihoods(run: FinishedRun, regions: Sequence[Region], folder: Path) -> Verified:
    """Compare the likelihoods in a folder with those of the run. Raises BundleError at the first difference."""
    pyhf_points, n_pyhf = set(_spread(run.points, N_PYHF)), 0
    pyhf_regions = set(_spread(range(len(regions)), N_PYHF))
    limit_points = set(_spread(run.points, N_LIMITS))
    methods = [method for method in run.methods if method in _ASYMPTOTIC]
    largest, n_limits, largest_limit = 0.0, 0, 0.0
    for number, region in enumerate(regions):
        background = read_json(folder / region.file(BACKGROUND))
        patchset = read_json(folder / region.file(PATCHSET))
        _check_patchset(region, background, patchset, len(run.grid))
        if number in pyhf_regions:
            n_pyhf += _check_with_pyhf(region, background, patchset, run, pyhf_points)
        for point, operations in operations_of(patchset):
            direct, _ = open_likelihood(run.workspace(point))
            published, _ = open_likelihood(background, [operations])
            largest = max(largest, difference(direct, published, where=point))
            for method in methods if point in limit_points else ():
                row = run.row(point, method)
                if row["status"] == "ok" and not row.get("toys"):
                    n_limits += 1
                    largest_limit = max(largest_limit, _limit_difference(published, row, method))
    return Verified(
        points=len(run.points),
        largest_difference=largest,
        pyhf_points=n_pyhf,
        limits=n_limits,
        largest_limit_difference=largest_limit,
    )


def difference(one: Likelihood, two: Likelihood, *, where: str) -> float:
    """The largest relative difference of -2 ln L at a few points, at which no parameter is at its initial value.

    Raises BundleError where it is above TOLERANCE, or where the parameters are not the same.
    """
    _check_parameters(one.parameters, two.parameters, where)
    found = []
    for seed in range(4):
        point = _moved(one.parameters, one.poi_index, seed)
        values = one.twice_nll(point), two.twice_nll(point)
        if all(math.isfinite(value) for value in values):
            found.append(abs(values[0] - values[1]) / max(abs(values[0]), 1.0))
        elif values[0] != values[1]:
            found.append(math.inf)
    if not found:
        msg = f"{where}: -2 ln L is infinite wherever it was asked for; nothing could be compared"
        raise BundleError(msg)
    if not max(found) <= TOLERANCE:
        msg = f"{where}: -2 ln L differs by {max(found):.1e} from that of the run, relative; at most {TOLERANCE:g} is allowed"
        raise BundleError(msg)
    return max(found)


def _moved(parameters: Sequence[Parameter], poi_index: int, seed: int) -> list[float]:
    """Parameter values off their centres, each by another amount, within their bounds; the first nearly nominal."""
    values = []
    for index, parameter in enumerate(parameters):
        step = math.cos(1.0 + 2.4 * index + 1.7 * seed) * (0.01 if seed == 0 else 1.0)
        size = _SPREAD * parameter.width if parameter.width else _FREE * max(abs(parameter.init), 0.1)
        value = parameter.init + (0.0 if parameter.fixed else step * size)
        if index == poi_index:
            value = abs(value)
        values.append(min(max(value, parameter.lower), parameter.upper))
    return values


def _check_parameters(one: Sequence[Parameter], two: Sequence[Parameter], where: str) -> None:
    names = [[parameter.name for parameter in parameters] for parameters in (one, two)]
    if names[0] != names[1]:
        odd = sorted(set(names[0]) ^ set(names[1]))[:3]
        msg = f"{where}: the parameters are not those of the run: {', '.join(odd) or 'they have another order'}"
        raise BundleError(msg)
    for first, second in zip(one, two, strict=True):
        for key in ("init", "lower", "upper", "centre", "width", "fixed"):
            was, now = getattr(first, key), getattr(second, key)
            same = was == now or (
                isinstance(was, float) and isinstance(now, float) and math.isclose(was, now, rel_tol=TOLERANCE)
            )
            if not same:
                msg = f"{where}: {key} of {first.name} is {now}, but {was} in the run"
                raise BundleError(msg)


def _limit_difference(likelihood: Any, row: Mapping[str, Any], method: Any) -> float:
    """The largest relative difference of the limits on mu from those of a row."""
    where = f"{row['point']}, {method}"
    try:
        limit = find_limit(likelihood, LimitRequest(method=method, confidence_level=float(row["confidence_level"])))
    except FitFailure as failure:
        msg = f"{where}: the run has a limit, but from the bundle there is none: {failure}"
        raise BundleError(msg) from None
    again = [limit.observed, *(limit.expected or [None] * len(BANDS))]
    largest = 0.0
    for band, value in zip(("observed", *BANDS), again, strict=True):
        was = row.get(f"mu_{band}")
        if (was is None) != (value is None):
            msg = f"{where}: mu_{band} is {was} in limits.json, and {value} from the bundle"
            raise BundleError(msg)
        if was is None or value is None:
            continue
        largest = max(largest, abs(value - was) / max(abs(was), 1e-6))
        if not largest <= LIMIT_TOLERANCE:
            msg = (
                f"{where}: mu_{band} is {was!r} in limits.json, but {value!r} from the bundle; was one of them changed?"
            )
            raise BundleError(msg)
    return largest


def _check_patchset(region: Region, background: Any, patchset: Any, n_labels: int) -> None:
    """All that the schema and the uniqueness of a patchset ask for, and that it belongs to its background."""
    where = region.file(PATCHSET)
    if not is_plainly_valid(background):
        _fail(f"{region.file(BACKGROUND)}: not a workspace by the schema of pyhf")
    if patchset["metadata"]["digests"] != digests(background):
        _fail(f"{where}: the digests are not those of {BACKGROUND}")
    metadata = [patch["metadata"] for patch in patchset["patches"]]
    if [item["name"] for item in metadata] != list(region.points):
        _fail(f"{where}: the patches are not those of the points {region.points[0]} to {region.points[-1]}")
    bad = [item["name"] for item in metadata if not _NAME.fullmatch(item["name"])]
    if bad or not all(_NAME.fullmatch(label) for label in patchset["metadata"]["labels"]):
        _fail(f"{where}: {(bad or patchset['metadata']['labels'])[0]!r}: names are letters, digits and _ only")
    values = [tuple(item["values"]) for item in metadata]
    if len(set(values)) < len(values) or any(len(value) != n_labels for value in values):
        _fail(f"{where}: the values of the patches are not {n_labels} each, or stand there twice")


def _check_with_pyhf(region: Region, background: Any, patchset: Any, run: FinishedRun, chosen: set[str]) -> int:
    """pyhf's schema, digests and order; and its likelihood of the first point and the chosen ones. Returns their number."""
    import pyhf

    from modelbuilder.inference._pyhf_backend import numpy_backend

    with numpy_backend(), _old_resolver():
        workspace = pyhf.Workspace(background)
        patches = pyhf.PatchSet(patchset)
        patches.verify(workspace)
        if pyhf.Workspace.sorted(workspace) != workspace:
            _fail(f"{region.file(BACKGROUND)}: not in the order of pyhf")
        points = [point for point in region.points if point in chosen or point == region.points[0]]
        for point in points:
            patched = patches.apply(workspace, point)
            if in_order(patched) != dict(patched):
                _fail(f"{region.file(PATCHSET)}: {point}: the patched workspace is not sorted")
            models = pyhf.Workspace(run.workspace(point)).model(), patched.model()
            observed = [
                pyhf.tensorlib.astensor([*_counts(model, source), *model.config.auxdata])
                for model, source in zip(models, (run.workspace(point), patched), strict=True)
            ]
            pars = models[0].config.suggested_init()
            values = [-2.0 * float(model.logpdf(pars, data)[0]) for model, data in zip(models, observed, strict=True)]
            if not abs(values[0] - values[1]) <= TOLERANCE * max(abs(values[0]), 1.0):
                _fail(f"{point}: -2 ln L by pyhf is {values[1]!r} in the bundle, {values[0]!r} in the run")
    return len(points)


def _counts(model: Any, workspace: Mapping[str, Any]) -> list[float]:
    observed = {item["name"]: item["data"] for item in workspace["observations"]}
    return [count for channel in model.config.channels for count in observed[channel]]


@contextmanager
def _old_resolver() -> Iterator[None]:
    """pyhf validates with a class of jsonschema that is deprecated, and says so at each call."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="jsonschema.RefResolver", category=DeprecationWarning)
        yield


def _spread(items: Sequence[Any], number: int) -> list[Any]:
    """At most `number` of the items, both ends included."""
    if len(items) <= number:
        return list(items)
    return [items[round(index * (len(items) - 1) / (number - 1))] for index in range(number)]


def _fail(text: str) -> None:
    raise BundleError(text)
