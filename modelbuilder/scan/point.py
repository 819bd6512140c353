"""One grid point: simulate the signal, build the workspace, find the limits, turn them into couplings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.histograms.templates import PointTemplates
from modelbuilder.scan.limited import Limited, cells_of, proportional
from modelbuilder.scan.table import CROSS_SECTION, MU, VISIBLE_CROSS_SECTION, YIELD, Quantity, Row
from modelbuilder.spec.combination import CombinationSpec
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.interpretations import Interpretation
from modelbuilder.spec.load import LoadedSearch
from modelbuilder.spec.search import Data, PseudoData, SearchSpec
from modelbuilder.workspace.build import PointWorkspace, build_workspace
from modelbuilder.workspace.lint import LintMessage

if TYPE_CHECKING:
    from collections.abc import Callable

    import hist

    from modelbuilder.inference.choice import FoundLimit, LimitRequest
    from modelbuilder.spec.methods import Method

    Limits = Callable[[Method], FoundLimit]


@dataclass(frozen=True, kw_only=True)
class MadePoint:
    """A grid point of a search or of a combination, ready for its limits.

    templates: by their name in the file of the point; none, if there is no such file.
    head: the cells of its rows that no limit changes.
    """

    point: GridPoint
    workspace: dict[str, Any]
    lint: tuple[LintMessage, ...]
    templates: Mapping[str, hist.Hist[Any]]
    head: Row
    limited: Sequence[Limited]


@dataclass(frozen=True, kw_only=True)
class BuiltPoint:
    """A grid point up to its workspace."""

    point: GridPoint
    templates: PointTemplates
    built: PointWorkspace


def build_point(search: LoadedSearch, simulation: Simulation, region: RegionTemplates, point: GridPoint) -> BuiltPoint:
    """Simulate the signal of a grid point and build its workspace. region: as of `Simulation.background`."""
    signal, efficiency = simulation.signal(region.region, point)
    return built_from(search, point, region.at(point, signal, efficiency))


def built_from(search: LoadedSearch, point: GridPoint, templates: PointTemplates) -> BuiltPoint:
    """Build the workspace of a grid point from its templates."""
    return BuiltPoint(point=point, templates=templates, built=build_workspace(search, point, templates))


def quantities_of(spec: SearchSpec) -> tuple[Quantity, ...]:
    """What a limit is given on; the couplings of the interpretations last."""
    couplings = (coupling_of(name, found) for name, found in spec.interpretations.items())
    return (MU, YIELD, VISIBLE_CROSS_SECTION, CROSS_SECTION, *couplings)


def coupling_of(name: str, interpretation: Interpretation) -> Quantity:
    """The column of an interpretation."""
    theory = interpretation.theory
    return Quantity(name, theory.unit, f"coupling of {interpretation.text}", reopens=theory.power is None)


def limited_of(spec: SearchSpec, found: BuiltPoint) -> list[Limited]:
    """The same at a grid point, with what a limit on the signal strength excludes of each."""
    reference, selected = found.built.reference_cross_section, found.built.signal_yield
    return [
        proportional(MU, 1.0),
        proportional(YIELD, selected),
        proportional(VISIBLE_CROSS_SECTION, selected / spec.luminosity.value),
        proportional(CROSS_SECTION, reference),
        *(in_a_model(spec, name, found.point, reference) for name in spec.interpretations),
    ]


def in_a_model(spec: SearchSpec, name: str, point: GridPoint, reference: float) -> Limited:
    """An interpretation at a grid point. reference: cross section at a signal strength of 1, fb."""
    interpretation = spec.interpretations[name]
    theory, sqrt_s = interpretation.theory, spec.experiment.beams.sqrt_s
    masses = interpretation.masses_at(point.values)
    return Limited(
        quantity=coupling_of(name, interpretation),
        excluded=lambda mu: theory.excluded(sqrt_s, masses, mu * reference, interpretation.parameters),
    )


def data_label(data: Data) -> str:
    """`pseudo:SEED` or `asimov`."""
    return f"pseudo:{data.seed}" if isinstance(data, PseudoData) else "asimov"


def limit_rows(spec: SearchSpec | CombinationSpec, made: MadePoint) -> list[Row]:
    """One row per method; a fit that failed leaves its name in `status` and the numbers empty."""
    from modelbuilder.inference import AsymptoticCalculator
    from modelbuilder.inference.choice import bayesian_found, find_limit, open_likelihood
    from modelbuilder.inference.counting import counting_limit, expected_counts

    head, methods = made.head, spec.statistics.methods
    errors = [message for message in made.lint if message.severity == "error"]
    if errors:
        return [{**head, "method": method, "status": errors[0].rule} for method in methods]
    try:
        likelihood, notes = open_likelihood(made.workspace)
        calculator = AsymptoticCalculator(likelihood)
    except FitFailure as failure:
        return [{**head, "method": method, "status": failure.reason} for method in methods]

    def limits(method: Method) -> FoundLimit:
        request = request_of(spec, method, made.point)
        if method == "bayesian" and request.prior == "flat":
            limit = counting_limit(made.workspace, confidence_level=request.confidence_level)
            if limit is not None:
                return bayesian_found(limit, calculator.discovery())
        counts = expected_counts(made.workspace) if method == "feldman-cousins" else None
        return find_limit(likelihood, request, calculator=calculator, counts=counts)

    return [_row(made.limited, limits, method, head, notes) for method in methods]


def request_of(spec: SearchSpec | CombinationSpec, method: Method, point: GridPoint) -> LimitRequest:
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


def head_of(spec: SearchSpec, found: BuiltPoint) -> Row:
    """The cells of its rows that no limit changes."""
    return {
        "point": found.point.name,
        **{f"{variable}_gev": mass for variable, mass in found.point.coordinates},
        "channel": found.point.channel,
        "confidence_level": spec.statistics.confidence_level,
        "data": data_label(spec.data),
        "signal_efficiency": found.templates.efficiency,
        "background_events": found.built.background_yield,
        "reference_cross_section_fb": found.built.reference_cross_section,
    }


def _row(limited: Sequence[Limited], limits: Limits, method: Method, head: Row, notes: tuple[str, ...]) -> Row:
    head = {**head, "method": method}
    try:
        limit = limits(method)
    except FitFailure as failure:
        return {**head, "status": failure.reason}
    except WorkspaceError:
        return {**head, "status": "not-compiled"}
    significance, expected = limit.discovery.significance, limit.expected or ()
    if not all(math.isfinite(value) for value in (significance, limit.observed, *expected)):
        return {**head, "status": "not-finite"}
    cells, warnings = cells_of(limited, limit.observed, expected)
    row: Row = {**head, "status": "ok", "local_significance": significance, **cells}
    warnings = [*notes, *limit.warnings, *warnings]
    if "toys" in limit.details:
        row["toys"] = limit.details["toys"]
    if limit.observed == 0.0:
        warnings.append("the data fluctuate down so far that every positive signal is excluded; see CLs")
    row["warnings"] = "; ".join(warnings)
    return row
