"""One grid point: simulate the signal, build the workspace, find the limits, turn them into couplings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.histograms.templates import PointTemplates
from modelbuilder.scan.table import CROSS_SECTION, MU, YIELD, Quantity, Row, limits_of
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import PseudoData, SearchSpec
from modelbuilder.theory.models import MODELS
from modelbuilder.workspace.build import PointWorkspace, build_workspace

if TYPE_CHECKING:
    from collections.abc import Callable

    from modelbuilder.inference.choice import FoundLimit, LimitRequest
    from modelbuilder.spec.methods import Method

    Limits = Callable[[Method], FoundLimit]


@dataclass(frozen=True, kw_only=True)
class BuiltPoint:
    """A grid point up to its workspace."""

    point: GridPoint
    templates: PointTemplates
    built: PointWorkspace


def build_point(search: LoadedSearch, point: GridPoint, templates: PointTemplates) -> BuiltPoint:
    """Build the workspace of a grid point."""
    return BuiltPoint(point=point, templates=templates, built=build_workspace(search, point, templates))


def quantities_of(spec: SearchSpec) -> tuple[Quantity, ...]:
    """What a limit is given on; the coupling of the model last, if there is one."""
    if spec.signal.model is None:
        return (MU, YIELD, CROSS_SECTION)
    model = MODELS[spec.signal.model]
    return (MU, YIELD, CROSS_SECTION, Quantity(model.coupling, model.unit, f"coupling of {spec.signal.model}"))


def data_label(spec: SearchSpec) -> str:
    """`pseudo:SEED` or `asimov`."""
    return f"pseudo:{spec.data.seed}" if isinstance(spec.data, PseudoData) else "asimov"


def limit_rows(search: LoadedSearch, found: BuiltPoint) -> list[Row]:
    """One row per method; a fit that failed leaves its name in `status` and the numbers empty."""
    from modelbuilder.inference import AsymptoticCalculator
    from modelbuilder.inference.choice import bayesian_found, find_limit, open_likelihood
    from modelbuilder.inference.counting import counting_limit

    head = _head(search.spec, found)
    methods = search.spec.statistics.methods
    errors = [message for message in found.built.lint if message.severity == "error"]
    if errors:
        return [{**head, "method": method, "status": errors[0].rule} for method in methods]
    try:
        likelihood, notes = open_likelihood(found.built.workspace)
        calculator = AsymptoticCalculator(likelihood)
    except FitFailure as failure:
        return [{**head, "method": method, "status": failure.reason} for method in methods]

    def limits(method: Method) -> FoundLimit:
        request = request_of(search.spec, method, found.point)
        if search.spec.in_plane and method == "bayesian" and request.prior == "flat":
            limit = counting_limit(found.built.workspace, confidence_level=request.confidence_level)
            if limit is not None:
                return bayesian_found(limit, calculator.discovery())
        return find_limit(likelihood, request, calculator=calculator)

    return [_row(search.spec, found, limits, method, head, notes) for method in methods]


def request_of(spec: SearchSpec, method: Method, point: GridPoint) -> LimitRequest:
    """What a spec asks for at a grid point; each point has toys of its own."""
    from modelbuilder.inference.choice import LimitRequest
    from modelbuilder.kinematics.shards import stream_key

    statistics = spec.statistics
    return LimitRequest(
        method=method,
        confidence_level=statistics.confidence_level,
        toys=None if statistics.toys is None else statistics.toys.number,
        only_where_doubtful=statistics.toys is not None and statistics.toys.use == "where-doubtful",
        prior=statistics.prior,
        band_toys=statistics.band_toys,
        seed=stream_key(spec.seed, f"limits/{point.name}")[0],
    )


def _head(spec: SearchSpec, found: BuiltPoint) -> Row:
    return {
        "point": found.point.name,
        **{f"{variable}_gev": mass for variable, mass in found.point.coordinates},
        "channel": found.point.channel,
        "confidence_level": spec.statistics.confidence_level,
        "data": data_label(spec),
        "signal_efficiency": found.templates.efficiency,
        "background_events": found.built.background_yield,
        "reference_cross_section_fb": found.built.reference_cross_section,
    }


def _row(spec: SearchSpec, found: BuiltPoint, limits: Limits, method: Method, head: Row, notes: tuple[str, ...]) -> Row:
    try:
        limit = limits(method)
    except FitFailure as failure:
        return {**head, "method": method, "status": failure.reason}
    except WorkspaceError:
        return {**head, "method": method, "status": "not-compiled"}
    row: Row = {**head, "method": method, "status": "ok", "local_significance": limit.discovery.significance}
    model = None if spec.signal.model is None else MODELS[spec.signal.model]
    sqrt_s = spec.experiment.beams.sqrt_s
    reference = found.built.reference_cross_section
    factors = {MU: 1.0, YIELD: found.built.signal_yield, CROSS_SECTION: reference}
    for quantity in quantities_of(spec):

        def convert(value: float, quantity: Quantity = quantity) -> float:
            if model is not None and quantity not in factors:
                return model.coupling_from_cross_section(sqrt_s, found.point.mass, value * reference)
            return value * factors[quantity]

        row.update(limits_of(quantity, convert(limit.observed), [convert(value) for value in limit.expected or ()]))
    warnings = [*notes, *limit.warnings]
    if "toys" in limit.details:
        row["toys"] = limit.details["toys"]
    if limit.observed == 0.0:
        warnings.append("the data fluctuate down so far that every positive signal is excluded; see CLs")
    row["warnings"] = "; ".join(warnings)
    if not all(math.isfinite(value) for value in row.values() if isinstance(value, float)):
        return {**head, "method": method, "status": "not-finite"}
    return row
