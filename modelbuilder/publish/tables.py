"""The tables of a submission, as columns of plain numbers; nothing here knows how HEPData writes them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelbuilder.errors import InputFileError
from modelbuilder.publish.finished_run import FinishedRun, LimitedQuantity
from modelbuilder.workspace.files import read_json

if TYPE_CHECKING:
    from modelbuilder.inference.results import FitResult

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
    values: tuple[float | str | None, ...]
    bands: tuple[tuple[Band, ...], ...] = ()
    qualifiers: Qualifiers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table. `file` is a short name without suffix; `figure` is the picture that shows it."""

    name: str
    file: str
    description: str
    independent: tuple[Variable, ...]
    dependent: tuple[Variable, ...]
    observable: str
    figure: Path | None = None


def all_tables(run: FinishedRun, effects: Sequence[Effects], cut_flows: Sequence[Path], fit: Fit | None) -> list[Table]:
    """Every table of a run, in the order of a submission."""
    found = [limit_table(run, quantity, method) for quantity in run.published_quantities for method in run.methods]
    found += [significance_table(run), efficiency_table(run)]
    found += systematics_tables(run, effects)
    if fit is not None and len(fit.names) > 1:
        found.append(correlation_table(run, fit))
    found += [cut_flow_table(path) for path in cut_flows]
    return found


def limit_table(run: FinishedRun, quantity: LimitedQuantity, method: str) -> Table:
    """Observed limit, and the expected one with its bands, on one quantity by one method."""
    rows = [run.row(point, method) for point in run.points]
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
    missing = f" At {failed} of {len(rows)} points no limit was found; they are marked with a dash." if failed else ""
    return Table(
        name=_short(f"Limit on {_in_words(quantity)} ({method})"),
        file=f"limit_{quantity.name}_{method}",
        description=(
            f"Upper limits at {level} by {how}: {quantity.description}. The errors of the expected limit are its bands of"
            f" one and two standard deviations. {run.data_text}{missing}"
        ),
        independent=_grid(run, run.points),
        dependent=tuple(dependent),
        observable="COUPLING" if quantity.is_coupling else "SIG",
        figure=_figure(run, f"limit_{quantity.name}_{method}"),
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
        independent=_grid(run, run.points),
        dependent=(_variable("Local significance", "", values, _energy(run)),),
        observable="SIGNIFICANCE",
    )


def efficiency_table(run: FinishedRun) -> Table:
    """Signal efficiency, expected background, and the rate that the signal strength counts in."""
    named = {column.name: column for column in run.columns}
    titles = {
        "signal_efficiency": "Signal efficiency",
        "background_events": "Expected background",
        run.rate.reference: f"{run.rate.kind.capitalize()} at mu = 1",
    }
    return Table(
        name="Signal efficiency",
        file="efficiency",
        description=(
            "Efficiency of the signal, acceptance included, before the fit window; expected background entries in the fit"
            f" window; and the {run.rate.kind} that a signal strength of 1 stands for in the likelihoods."
        ),
        independent=_grid(run, run.points),
        dependent=tuple(
            _variable(title, named[name].unit, [run.head[point].get(name) for point in run.points], _energy(run))
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
                independent=_grid(run, run.points),
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
    where = ", ".join(f"{c.name} = {x:g}" for c, x in zip(run.grid, run.values_of(fit.point), strict=True))
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


def _grid(run: FinishedRun, points: Sequence[str]) -> tuple[Variable, ...]:
    values = [run.values_of(point) for point in points]
    return tuple(
        Variable(
            name=_without_unit(column.name, column.unit), units=column.unit, values=tuple(row[i] for row in values)
        )
        for i, column in enumerate(run.grid)
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
    return {"SQRT(S)": (round(run.search.spec.experiment.beams.sqrt_s, 3), "GeV")}


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


def _figure(run: FinishedRun, stem: str) -> Path | None:
    path = run.path / "figures" / f"{stem}.png"
    return path if path.is_file() else None


def _without_unit(name: str, unit: str) -> str:
    suffix = {"GeV^-1": "per_gev"}.get(unit, unit.lower())
    return name.removesuffix(f"_{suffix}") if unit else name


def _short(name: str) -> str:
    """At most the 64 characters that HEPData allows."""
    return name if len(name) <= 64 else f"{name[:61]}..."
