"""One grid point: simulate the signal, build the workspace, find the limits, turn them into couplings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import FitFailure, WorkspaceError
from modelbuilder.histograms.simulate import RegionTemplates, RelativeEfficiency, Simulation
from modelbuilder.histograms.templates import PointTemplates
from modelbuilder.scan.limited import Limited, cells_of, proportional
from modelbuilder.scan.table import CTAU, MU, VISIBLE_CROSS_SECTION, YIELD, Quantity, Row, quantity_of
from modelbuilder.spec.combination import CombinationSpec, DataOfCombination
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


LARGEST_ERROR = 0.05
"""Relative statistical error of an efficiency at a lifetime above which there is a warning."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What limits on the signal strength of a workspace mean: once, or at each lifetime that has the same shape.

    head: the cells of its rows that no limit changes.    failure: why it means nothing; empty if it does.
    warning: what to keep in mind of it, if anything.
    """

    head: Row
    limited: Sequence[Limited]
    failure: str = ""
    warning: str = ""


@dataclass(frozen=True, kw_only=True)
class MadePoint:
    """A grid point of a search or of a combination, ready for its limits.

    templates: by their name in the file of the point; none, if there is no such file.
    """

    point: GridPoint
    workspace: dict[str, Any]
    lint: tuple[LintMessage, ...]
    templates: Mapping[str, hist.Hist[Any]]
    readings: Sequence[Reading]


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
    visible = (VISIBLE_CROSS_SECTION,) if spec.rate.kind == "cross section" else ()
    return (MU, YIELD, *visible, quantity_of(spec.rate), *couplings)


def coupling_of(name: str, interpretation: Interpretation) -> Quantity:
    """The column of an interpretation."""
    theory = interpretation.theory
    reopens = theory.power is None or theory.lifetime is not None
    return Quantity(name, theory.unit, f"coupling of {interpretation.text}", reopens=reopens)


def reading_of(spec: SearchSpec, found: BuiltPoint) -> Reading:
    """What the workspace of a grid point says."""
    return Reading(head=_head_of(spec, found, 1.0), limited=_limited_of(spec, found, 1.0))


def reading_at(spec: SearchSpec, found: BuiltPoint, at: RelativeEfficiency) -> Reading:
    """The same at a lifetime with another efficiency than that of the shape."""
    head = {**_head_of(spec, found, at.relative), CTAU: at.ctau}
    if at.relative == 0.0:
        return Reading(head={**head, "signal_efficiency": None}, limited=(), failure="few-simulated-events")
    nominal = found.templates.signal.nominal
    of_shape = math.sqrt(float(nominal.variances.sum())) / max(nominal.total, 1e-300)
    own = spec.signal.lifetime is not None and at.ctau == spec.signal.lifetime.shape_at
    error = of_shape if own else math.hypot(of_shape, at.stdev / at.relative)
    head["signal_efficiency_stdev"] = found.templates.efficiency * at.relative * error
    warning = (
        f"the simulation leaves {100 * error:.0f} % uncertainty in the efficiency" if error > LARGEST_ERROR else ""
    )
    return Reading(head=head, limited=_limited_of(spec, found, at.relative), warning=warning)


def _limited_of(spec: SearchSpec, found: BuiltPoint, relative: float) -> list[Limited]:
    """What a limit on the signal strength excludes of each quantity. relative: efficiency over that of the workspace."""
    reference, selected = found.built.reference / relative, found.built.signal_yield
    factors = {
        MU: 1.0,
        YIELD: selected,
        VISIBLE_CROSS_SECTION: selected / spec.luminosity.value,
        quantity_of(spec.rate): reference,
    }
    return [
        *(proportional(quantity, factors[quantity]) for quantity in quantities_of(spec) if quantity in factors),
        *(in_a_model(spec, name, found.point, reference) for name in spec.interpretations if _says(spec, name)),
    ]


def _says(spec: SearchSpec, name: str) -> bool:
    """Whether a limit at one lifetime says anything of a coupling; not if the coupling is known by the lifetime alone."""
    return spec.interpretations[name].theory.power != 0


def in_a_model(spec: SearchSpec, name: str, point: GridPoint, reference: float) -> Limited:
    """An interpretation at a grid point. reference: rate at a signal strength of 1."""
    interpretation = spec.interpretations[name]
    theory, sqrt_s = interpretation.theory, spec.experiment.beams.sqrt_s
    masses = interpretation.masses_at(point.values)
    return Limited(
        quantity=coupling_of(name, interpretation),
        excluded=lambda mu: theory.excluded(sqrt_s, masses, mu * reference, interpretation.parameters),
    )


def data_label(data: Data | DataOfCombination) -> str:
    """`pseudo:SEED`, `asimov` or `observed`."""
    return f"pseudo:{data.seed}" if isinstance(data, PseudoData) else data.kind


def limit_rows(spec: SearchSpec | CombinationSpec, made: MadePoint) -> list[Row]:
    """One row per method; a fit that failed leaves its name in `status` and the numbers empty."""
    from modelbuilder.inference import AsymptoticCalculator
    from modelbuilder.inference.choice import bayesian_found, find_limit, open_likelihood
    from modelbuilder.inference.counting import expected_counts
    from modelbuilder.inference.on_off import limit_of_counts

    methods = spec.statistics.methods
    errors = [message for message in made.lint if message.severity == "error"]
    if errors:
        return _failed(made, methods, errors[0].rule)
    try:
        likelihood, notes = open_likelihood(made.workspace)
        calculator = AsymptoticCalculator(likelihood)
    except FitFailure as failure:
        return _failed(made, methods, failure.reason)

    def limits(method: Method) -> FoundLimit:
        request = request_of(spec, method, made.point)
        if method == "bayesian" and request.prior == "flat":
            limit = limit_of_counts(made.workspace, confidence_level=request.confidence_level)
            if limit is not None:
                return bayesian_found(limit, calculator.discovery())
        counts = expected_counts(made.workspace) if method == "feldman-cousins" else None
        return find_limit(likelihood, request, calculator=calculator, counts=counts)

    found = {method: _limit(limits, method) for method in methods}
    return [_row(one, found[method], method, notes) for one in made.readings for method in methods]


def _failed(made: MadePoint, methods: Sequence[Method], status: str) -> list[Row]:
    return [{**one.head, "method": method, "status": status} for one in made.readings for method in methods]


def _limit(limits: Limits, method: Method) -> FoundLimit | str:
    """The limit by a method, or the name of a failure."""
    try:
        limit = limits(method)
    except FitFailure as failure:
        return failure.reason
    except WorkspaceError:
        return "not-compiled"
    numbers = (limit.discovery.significance, limit.observed, *(limit.expected or ()))
    return limit if all(math.isfinite(value) for value in numbers) else "not-finite"


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


def place_of(point: GridPoint) -> Row:
    """The cells that say where a point is."""
    lifetime = {} if point.ctau is None else {CTAU: point.ctau}
    return {"point": point.name, **{f"{variable}_gev": mass for variable, mass in point.coordinates}, **lifetime}


def _head_of(spec: SearchSpec, found: BuiltPoint, relative: float) -> Row:
    """The cells of its rows that no limit changes. relative: as of `_limited_of`."""
    reference = None if relative == 0.0 else found.built.reference / relative
    return {
        **place_of(found.point),
        "channel": found.point.channel,
        "confidence_level": spec.statistics.confidence_level,
        "data": data_label(spec.data),
        "signal_efficiency": found.templates.efficiency * relative,
        "background_events": found.built.background_yield,
        spec.rate.reference: reference,
    }


def _row(reading: Reading, limit: FoundLimit | str, method: Method, notes: tuple[str, ...]) -> Row:
    head: Row = {**reading.head, "method": method}
    if reading.failure or isinstance(limit, str):
        return {**head, "status": reading.failure or str(limit)}
    cells, warnings = cells_of(reading.limited, limit.observed, limit.expected or ())
    row: Row = {**head, "status": "ok", "local_significance": limit.discovery.significance, **cells}
    warnings = [*notes, *limit.warnings, *([reading.warning] if reading.warning else []), *warnings]
    if "toys" in limit.details:
        row["toys"] = limit.details["toys"]
    if limit.observed == 0.0:
        warnings.append("the data fluctuate down so far that every positive signal is excluded; see CLs")
    row["warnings"] = "; ".join(warnings)
    return row
