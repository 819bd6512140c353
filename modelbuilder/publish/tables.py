"""The tables of a submission, as columns of plain numbers; nothing here knows how HEPData writes them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import InputFileError
from modelbuilder.histograms.templates import axis_of
from modelbuilder.publish.figures import Spectrum, pulls_of
from modelbuilder.publish.finished_run import FinishedRun, LimitedQuantity
from modelbuilder.scan.store import FIGURES
from modelbuilder.workspace.files import read_json

if TYPE_CHECKING:
    from modelbuilder.inference.results import FitResult, Pull

METHODS = {
    "profile-likelihood": "one-sided profile likelihood",
    "cls": "CLs",
    "feldman-cousins": "Feldman-Cousins",
    "bayesian": "Bayesian",
}
MAX_PARAMETERS = 70
"""In a correlation matrix: HEPData shows some five thousand entries well."""

DATA = {"observed": "measured", "pseudo": "simulated", "asimov": "Asimov"}

Number = float | None
Qualifiers = Mapping[str, tuple[str | float, str]]
"""Of a column: value and unit by name."""


@dataclass(frozen=True)
class Bin:
    """An interval that stands in the place of a value, by its two ends."""

    low: float
    high: float


@dataclass(frozen=True)
class Band:
    """An interval around a value, by its two ends."""

    label: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Variable:
    """A column. A value that is missing is None; `bands` has, for each value, what surrounds it."""

    name: str
    units: str
    values: tuple[float | str | Bin | None, ...]
    bands: tuple[tuple[Band, ...], ...] = ()
    qualifiers: Qualifiers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. `file` is a short name without suffix; `figures` are the pictures that show it."""

    name: str
    file: str
    description: str
    independent: tuple[Variable, ...]
    dependent: tuple[Variable, ...]
    observable: str
    figures: tuple[Path, ...] = ()


def all_tables(
    run: FinishedRun,
    effects: Sequence[Effects],
    cut_flows: Sequence[Path],
    fit: Fit | None,
    fitted: Sequence[Fitted] = (),
) -> list[Table]:
    """Every table of a run, in the order of a submission. fitted: spectra after the fit."""
    limited = [(quantity, method) for quantity in run.published_quantities for method in run.methods]
    found = [limit_table(run, quantity, method) for quantity, method in limited]
    if all(quantity.is_coupling for quantity in run.published_quantities):
        # a combination has no rate of its own, whose limits would say the same
        own = [(quantity, method) for quantity, method in limited if run.of_own_lifetimes(quantity.name, method)]
        found += [limit_table(run, quantity, method, at_given_lifetimes=True) for quantity, method in own]
    found += [significance_table(run), efficiency_table(run)]
    found += systematics_tables(run, effects)
    if fit is not None and len(fit.names) > 1:
        found.append(correlation_table(run, fit))
    for one in fitted:
        found.append(spectrum_table(run, one))
        if one.pulls:
            found.append(pulls_table(run, one))
    found += [cut_flow_table(path) for path in cut_flows]
    return found


def limit_table(run: FinishedRun, quantity: LimitedQuantity, method: str, *, at_given_lifetimes: bool = False) -> Table:
    """Observed limit, and the expected one with its bands, on one quantity by one method.

    at_given_lifetimes: of a coupling that would say itself how far a particle flies, at each lifetime of the scan.
    """
    rows = run.rows_of(quantity.name, method)
    if at_given_lifetimes:
        rows = tuple(row for row in run.rows if row["method"] == method)
    cells = [dict(run.bands(row, quantity.name)) if row["status"] == "ok" else {} for row in rows]
    expected = [cell.get("expected") for cell in cells]
    level = f"{100 * run.confidence_level:g}% CL"
    how = METHODS.get(method, method)
    kind = run.data.partition(":")[0]
    qualifiers: Qualifiers = {
        **_energy(run),
        "Method": (how, ""),
        "Confidence level": (round(100.0 * run.confidence_level, 6), "%"),
        "Data": (DATA.get(kind, kind), ""),
    }
    observed = [cell.get("observed") for cell in cells]
    dependent = [_variable("Observed limit", quantity.unit, observed, qualifiers)]
    if any(value is not None for value in expected):
        bands = tuple(tuple(_bands(cell)) for cell in cells)
        dependent.append(_variable("Expected limit (median)", quantity.unit, expected, qualifiers, bands))
    for edge in ("observed_upper_edge", "expected_upper_edge"):
        values = [row.get(f"{quantity.name}_{edge}") for row in rows]
        if any(value is not None for value in values):
            name = f"{edge.partition('_')[0].capitalize()}, upper edge of the excluded interval"
            dependent.append(_variable(name, quantity.unit, values, qualifiers))
    failed = sum(row["status"] != "ok" for row in rows)
    own, file = "", f"limit_{quantity.name}_{method}"
    if at_given_lifetimes:
        file += "_at_given_lifetimes"
        own = " Each coupling sets the rate only; the lifetime is given, and need not be the one that the coupling has."
    elif run.of_own_lifetimes(quantity.name, method):
        own = " Each coupling at the lifetime that it gives itself."
    missing = f" At {failed} of {len(rows)} points no limit was found; they are marked with a dash." if failed else ""
    return Table(
        name=_short(f"Limit on {_in_words(quantity)} ({method}{', given lifetimes' if at_given_lifetimes else ''})"),
        file=file,
        description=(
            f"Upper limits at {level} by {how}: {quantity.description}. The errors of the expected limit are its bands of"
            f" one and two standard deviations. {run.data_text}{own}{missing}"
        ),
        independent=_grid(run, rows),
        dependent=tuple(dependent),
        observable="COUPLING" if quantity.is_coupling else "SIG",
        figures=_limit_figures(run, file),
    )


def significance_table(run: FinishedRun) -> Table:
    """The local significance of an excess at each point."""
    values = []
    for point in run.points:
        rows = (run.row(point, method) for method in run.methods)
        values.append(next((row["local_significance"] for row in rows if row["status"] == "ok"), None))
    return Table(
        name="Local significance",
        file="local_significance",
        description=(
            "Significance of an excess at each grid point alone, in standard deviations: the square root of q0, which is"
            f" zero where the data lie below the expected background. {run.data_text}"
        ),
        independent=_grid(run, [run.head[point] for point in run.points]),
        dependent=(_variable("Local significance", "", values, _energy(run)),),
        observable="SIGNIFICANCE",
    )


def efficiency_table(run: FinishedRun) -> Table:
    """Signal efficiency, expected background, and the rate that the signal strength counts in."""
    named = {column.name: column for column in run.columns}
    rows = [row for row in run.rows if row["method"] == run.methods[0]]
    titles = {
        "signal_efficiency": "Signal efficiency",
        "signal_efficiency_stdev": "Statistical error of the efficiency",
        "background_events": "Expected background",
        run.reference.name: f"{run.reference.description.capitalize()} at mu = 1",
    }
    return Table(
        name="Signal efficiency",
        file="efficiency",
        description=(
            "Efficiency of the signal, acceptance included, before the fit window; expected background entries in the fit"
            f" window; and the {run.reference.description} that a signal strength of 1 stands for in the likelihoods."
        ),
        independent=_grid(run, rows),
        dependent=tuple(
            _variable(title, named[name].unit, [row.get(name) for row in rows], _energy(run))
            for name, title in titles.items()
            if name in named
        ),
        observable="EFF",
    )


@dataclass(frozen=True)
class Effect:
    """A systematic on a sample: its modifier, and its size relative to the yield.

    size: the summed absolute change of the bins at one standard deviation, the larger of the two sides.
    """

    kind: str
    size: float


Effects = Mapping[tuple[str, str], Effect]
"""Of one point: by the names of systematic and sample."""


def effects_of(workspace: Mapping[str, Any], signal_samples: frozenset[str]) -> Effects:
    """The systematics of a workspace. A spurious signal counts relative to the signal, of which it is a part."""
    poi = workspace["measurements"][0]["config"]["poi"]
    parameters = {item["name"]: item for item in workspace["measurements"][0]["config"]["parameters"]}
    changes: dict[tuple[str, str], tuple[str, float, float]] = {}
    yields: dict[str, float] = {}
    signal = ""
    for channel in workspace["channels"]:
        for sample in channel["samples"]:
            name, total = sample["name"], math.fsum(sample["data"])
            yields[name] = yields.get(name, 0.0) + total
            for modifier in sample["modifiers"]:
                if modifier["name"] == poi:
                    signal = name
                found = _change(modifier, sample["data"], parameters)
                if found is not None:
                    kind, down, up = changes.get((modifier["name"], name), (modifier["type"], 0.0, 0.0))
                    squared = modifier["type"] == "staterror"
                    add = math.hypot if squared else (lambda one, two: one + two)
                    changes[modifier["name"], name] = (kind, add(down, found[0]), add(up, found[1]))
    result = {}
    for (systematic, name), (kind, down, up) in changes.items():
        of = signal if name in signal_samples else name
        if yields.get(of, 0.0) > 0.0:
            result[systematic, of] = Effect("spurious signal" if of != name else kind, max(down, up) / yields[of])
    return result


def _change(
    modifier: Mapping[str, Any], nominal: Sequence[float], parameters: Mapping[str, Any]
) -> tuple[float, float] | None:
    """Summed absolute changes, in events, at minus and plus one standard deviation; None for a free parameter."""
    data, total = modifier["data"], math.fsum(nominal)
    match modifier["type"]:
        case "normsys":
            return abs(data["lo"] - 1.0) * total, abs(data["hi"] - 1.0) * total
        case "histosys":
            low, high = (
                math.fsum(abs(x - y) for x, y in zip(data[side], nominal, strict=True))
                for side in ("lo_data", "hi_data")
            )
            return low, high
        case "lumi":
            sigma = parameters[modifier["name"]]["sigmas"][0]
            return sigma * total, sigma * total
        case "staterror" | "shapesys":
            size = math.sqrt(math.fsum(x * x for x in data))
            return size, size
    return None


def systematics_tables(run: FinishedRun, effects: Sequence[Effects]) -> list[Table]:
    """The list of systematics with their range over the grid, and those of the signal at each point.

    effects: of each point, in the order of the grid.
    """
    keys = sorted({key for found in effects for key in found})
    if not keys:
        return []
    found = {key: [effect[key] for effect in effects if key in effect] for key in keys}
    sizes = {key: [100.0 * effect.size for effect in items] for key, items in found.items()}
    what = "the summed absolute change of the bins at one standard deviation relative to the yield, larger of the two sides"
    tables = [
        Table(
            name="Systematic uncertainties",
            file="systematics",
            description=f"Systematic uncertainties by sample: {what}, smallest and largest over the grid.",
            independent=(
                Variable(name="Source", units="", values=tuple(source for source, _ in keys)),
                Variable(name="Sample", units="", values=tuple(sample for _, sample in keys)),
            ),
            dependent=(
                _variable("Modifier", "", [found[key][0].kind for key in keys]),
                _variable("Smallest", "%", [min(sizes[key]) for key in keys]),
                _variable("Largest", "%", [max(sizes[key]) for key in keys]),
                _variable("Grid points", "", [float(len(found[key])) for key in keys]),
            ),
            observable="SYSTEMATICS",
        )
    ]
    signal = [key for key in keys if key[1] == "signal"]
    if signal:
        columns = [
            _variable(key[0], "%", [100.0 * effect[key].size if key in effect else None for effect in effects])
            for key in signal
        ]
        tables.append(
            Table(
                name="Systematic uncertainties of the signal",
                file="systematics_signal",
                description=f"Systematic uncertainties of the signal at each grid point: {what}. A dash: none there.",
                independent=_grid(run, [run.head[point] for point in run.points]),
                dependent=tuple(columns),
                observable="SYSTEMATICS",
            )
        )
    return tables


@dataclass(frozen=True)
class Fit:
    """The fit of one point: names of its free parameters, and their correlations, shape (n, n)."""

    point: str
    names: tuple[str, ...]
    correlation: tuple[tuple[float, ...], ...]


def as_fit(point: str, result: FitResult, free: Sequence[str]) -> Fit:
    """The correlations of the free parameters; of very many, those with the largest correlations."""
    matrix = result.correlation
    assert matrix is not None
    chosen = [index for index, name in enumerate(result.parameter_names) if name in set(free)]
    if len(chosen) > MAX_PARAMETERS:
        strength = {i: max(abs(float(matrix[i, j])) for j in chosen if j != i) for i in chosen}
        kept = sorted(chosen, key=lambda i: (result.parameter_names[i] != result.poi_name, -strength[i]))
        chosen = sorted(kept[:MAX_PARAMETERS])
    names = tuple(result.parameter_names[index] for index in chosen)
    return Fit(point, names, tuple(tuple(float(matrix[i, j]) for j in chosen) for i in chosen))


def correlation_table(run: FinishedRun, fit: Fit) -> Table:
    """All pairs of parameters."""
    pairs = [(one, two) for one in fit.names for two in fit.names]
    values = [value for row in fit.correlation for value in row]
    where = _where(run, fit.point)
    return Table(
        name="Correlations of the fit",
        file="correlations",
        description=(
            "Correlation matrix of the best fit of signal and background at the grid point with the largest local"
            f" significance ({where}), from the second derivatives of -2 ln L. {run.data_text}"
        ),
        independent=(
            Variable(name="Parameter 1", units="", values=tuple(one for one, _ in pairs)),
            Variable(name="Parameter 2", units="", values=tuple(two for _, two in pairs)),
        ),
        dependent=(_variable("Correlation", "", values),),
        observable="CORR",
    )


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """One point after its fit. edges: of each observable.    spectrum: with all bins of a second observable."""

    point: str
    edges: tuple[tuple[float, ...], ...]
    spectrum: Spectrum
    pulls: tuple[Pull, ...]


def spectrum_table(run: FinishedRun, fitted: Fitted) -> Table:
    """Data, and the yields at the best fit, in each bin of the fit region of a point."""
    spectrum, point = fitted.spectrum, fitted.point
    line = run.first.line(str(run.head[point]["channel"]))
    observables = [line.observable, *([line.second.observable] if line.second is not None else [])]
    bins = [[Bin(a, b) for a, b in itertools.pairwise(edges)] for edges in fitted.edges]
    rows = list(itertools.product(*bins))
    signal = spectrum.signal
    assert spectrum.stdevs is not None
    assert signal is not None
    ends = zip(spectrum.total - spectrum.stdevs, spectrum.total + spectrum.stdevs, strict=True)
    fit_error = tuple((Band("fit", float(low), float(high)),) for low, high in ends)
    dependent = [_variable("Data", "", spectrum.observed.tolist(), _energy(run))]
    dependent.append(_variable("Total after the fit", "", spectrum.total.tolist(), _energy(run), fit_error))
    dependent += [_variable(name, "", values.tolist(), _energy(run)) for name, values in spectrum.parts.items()]
    dependent.append(_variable("Signal", "", signal.tolist(), _energy(run)))
    dependent.append(_variable("(data - total)/sqrt(total)", "", pulls_of(spectrum).tolist(), _energy(run)))
    stem = f"postfit_{point}"
    return Table(
        name=_short(f"Spectrum after the fit at {_where(run, point)}"),
        file=stem,
        description=(
            f"Events per bin of the fit region at {_where(run, point)}: data, and the best fit of signal and background."
            " The errors of the total are those of the fit, with all correlations of its parameters; they are correlated"
            f" from bin to bin. {run.data_text}"
        ),
        independent=tuple(
            Variable(name=name, units=_plain_unit(name), values=tuple(row[axis] for row in rows))
            for axis, name in enumerate(observables)
        ),
        dependent=tuple(dependent),
        observable="N",
        figures=_figures(run, stem, f"{stem}_slices"),
    )


def pulls_table(run: FinishedRun, fitted: Fitted) -> Table:
    """How far the fit of a point moved the constrained nuisance parameters."""
    point, pulls = fitted.point, fitted.pulls
    around = tuple((Band("fit", one.pull - one.uncertainty, one.pull + one.uncertainty),) for one in pulls)
    return Table(
        name=_short(f"Pulls of the fit at {_where(run, point)}"),
        file=f"pulls_{point}",
        description=(
            "Nuisance parameters at the best fit of signal and background, as the distance from where they were measured"
            f" in units of the width of that constraint, with the uncertainty of the fit in the same units. {run.data_text}"
        ),
        independent=(Variable(name="Parameter", units="", values=tuple(one.parameter for one in pulls)),),
        dependent=(_variable("Pull", "", [one.pull for one in pulls], _energy(run), around),),
        observable="PULL",
        figures=_figures(run, f"pulls_{point}"),
    )


def cut_flow_table(path: Path) -> Table:
    """The cut flow that `modelbuilder simulate --json` printed into a file. Raises InputFileError."""
    found = read_json(path)
    try:
        steps = [(str(s["step"]), float(s["efficiency"]), float(s["efficiency_stdev"])) for s in found["cut_flow"]]
        sample, point, events = str(found["sample"]), str(found["point"]), int(found["events"])
    except (KeyError, TypeError, ValueError):
        msg = f"{path}: not a cut flow; `modelbuilder simulate SPEC --point MASS --json > {path.name}` writes one"
        raise InputFileError(msg) from None
    return Table(
        name=_short(f"Cut flow of {sample} at {point}"),
        file=f"cut_flow_{sample}_{point}",
        description=f"Share of {events} simulated events of {sample} that are left after each step, at {point}.",
        independent=(Variable(name="Step", units="", values=tuple(step for step, _, _ in steps)),),
        dependent=(
            Variable(
                name="Efficiency",
                units="%",
                values=tuple(100.0 * value for _, value, _ in steps),
                bands=tuple((Band("simulation", 100.0 * (x - s), 100.0 * (x + s)),) for _, x, s in steps),
            ),
        ),
        observable="EFF",
    )


def _where(run: FinishedRun, point: str) -> str:
    """`m_a_gev = 1.27`: the masses of a point."""
    return ", ".join(f"{c.name} = {x:g}" for c, x in zip(run.grid, run.values_of(point), strict=True))


def _plain_unit(observable: str) -> str:
    unit = axis_of(observable).unit
    return "" if unit == "1" else unit


def _grid(run: FinishedRun, rows: Sequence[Mapping[str, Any]]) -> tuple[Variable, ...]:
    return tuple(
        Variable(
            name=_without_unit(column.name, column.unit),
            units=column.unit,
            values=tuple(float(row[column.name]) for row in rows),
        )
        for column in run.grid_of(rows)
    )


def _variable(
    name: str,
    units: str,
    values: Sequence[float | str | None],
    qualifiers: Qualifiers | None = None,
    bands: tuple[tuple[Band, ...], ...] = (),
) -> Variable:
    return Variable(name=name, units=units, values=tuple(values), bands=bands, qualifiers=qualifiers or {})


def _energy(run: FinishedRun) -> Qualifiers:
    return {"SQRT(S)": (run.sqrt_s[0], "GeV")} if len(run.sqrt_s) == 1 else {}


def _in_words(quantity: LimitedQuantity) -> str:
    """`cross section` for `cross_section_fb`."""
    name = _without_unit(quantity.name, quantity.unit)
    return name if quantity.is_coupling else name.replace("_", " ")


def _bands(cell: Mapping[str, Number]) -> Iterator[Band]:
    median = cell.get("expected")
    for n in (1, 2):
        down, up = cell.get(f"expected_m{n}"), cell.get(f"expected_p{n}")
        if median is not None and down is not None and up is not None:
            yield Band(f"{n} sigma", down, up)


def _figures(run: FinishedRun, *stems: str) -> tuple[Path, ...]:
    """Those that were drawn."""
    paths = (run.path / FIGURES / f"{stem}.png" for stem in stems)
    return tuple(path for path in paths if path.is_file())


def _limit_figures(run: FinishedRun, stem: str) -> tuple[Path, ...]:
    """The limits against the mass; in a plane of two masses the map, and the slices along both."""
    slices = (f"{stem}_against_{variable}" for variable in run.search.spec.grid_variables)
    return _figures(run, stem, f"{stem}_map", *slices)


def _without_unit(name: str, unit: str) -> str:
    suffix = {"GeV^-1": "per_gev"}.get(unit, unit.lower())
    return name.removesuffix(f"_{suffix}") if unit else name


def _short(name: str) -> str:
    """At most the 64 characters that HEPData allows."""
    return name if len(name) <= 64 else f"{name[:61]}..."
