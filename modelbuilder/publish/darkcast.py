"""Limits on couplings as the files of Darkcast have them: `EXPERIMENT_KEY.lmt` with masses and couplings, and a `.py` beside it.

Format: P. Ilten, Y. Soreq, M. Williams, W. Xue, arXiv:1801.04847; the program at gitlab.com/darkcast.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from modelbuilder.errors import BundleError, UserError
from modelbuilder.publish.finished_run import FinishedRun, LimitedQuantity

_HEAD = "# mass lower [upper]"


def write_darkcast(folder: Path, run: FinishedRun) -> list[Path]:
    """A pair of files for each coupling and method, of the observed limits; read back and compared.

    Raises UserError where there is no coupling, or more than one mass.
    """
    couplings = [quantity for quantity in run.quantities if quantity.is_coupling]
    if not couplings:
        msg = f"{run.path}: has no limits on a coupling, which is all that Darkcast knows"
        raise UserError(msg)
    if len(run.search.spec.grid_variables) != 1:
        msg = f"{run.path}: the grid has {len(run.grid)} variables; the files of Darkcast have the mass only"
        raise UserError(msg)
    written = []
    for quantity in couplings:
        for method in run.methods:
            rows = _rows(run, quantity, method)
            if not rows:
                continue
            stem = _stem(run, quantity, method)
            limits, about = folder / f"{stem}.lmt", folder / f"{stem}.py"
            lines = [_HEAD, *(" ".join(f"{value:.8e}" for value in row) for row in rows)]
            limits.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
            about.write_text(_about(run, quantity, method, stem), encoding="utf-8", newline="\n")
            _compare(limits, rows)
            written += [limits, about]
    return written


def read_limits(path: Path) -> list[tuple[float, ...]]:
    """Rows of mass, lower and, where the excluded interval is closed, upper edge."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [tuple(float(word) for word in line.split()) for line in lines if line and not line.startswith("#")]


def _rows(run: FinishedRun, quantity: LimitedQuantity, method: str) -> list[tuple[float, ...]]:
    """Mass in GeV and coupling, where there is a limit; what lies between the edges is excluded."""
    found = []
    rows = run.rows_of(quantity.name, method)
    masses = [column.name for column in run.grid_of(rows)]
    if len(masses) != 1:
        return []  # at each lifetime, not at that of the coupling
    for row in rows:
        lower = row.get(f"{quantity.name}_observed")
        if row["status"] != "ok" or lower is None or not lower > 0.0:
            continue
        upper = row.get(f"{quantity.name}_observed_upper_edge")
        found.append((*(float(row[name]) for name in masses), float(lower), *([] if upper is None else [float(upper)])))
    return found


def _compare(path: Path, rows: list[tuple[float, ...]]) -> None:
    again = read_limits(path)
    same = len(again) == len(rows) and all(
        len(one) == len(two) and all(math.isclose(x, y, rel_tol=1e-8) for x, y in zip(one, two, strict=True))
        for one, two in zip(again, rows, strict=False)
    )
    if not same:
        msg = f"{path}: does not read back as it was written"
        raise BundleError(msg)


_EFFICIENCY = {
    False: """# As for prompt or invisible decays: the efficiency does not depend on the lifetime.
efficiency = darkcast.Efficiency(t0 = 0, t1 = float("inf"))""",
    True: """# The limits hold at the lifetime that this model gives; the efficiency of another one is to be filled in.
efficiency = darkcast.Efficiency("FILL_IN")""",
}


def _stem(run: FinishedRun, quantity: LimitedQuantity, method: str) -> str:
    parts = (run.experiments, run.search.spec.name, quantity.name, method)
    return "_".join(re.sub(r"[^A-Za-z0-9]+", "", part) if i == 0 else re.sub(r"[^\w.-]+", "", part)
                    for i, part in enumerate(parts))  # fmt: skip


def _about(run: FinishedRun, quantity: LimitedQuantity, method: str, stem: str) -> str:
    """The `.py` file; every text in it is a literal, and what a run does not know is left to be filled in."""
    spec = run.search.spec
    flies = run.of_own_lifetimes(quantity.name, method)
    processes = dict.fromkeys(one.spec.signal.process for one in run.searches.values())
    notes = (
        f"{spec.title} ({run.experiments}). Upper limits at {100 * run.confidence_level:g}% CL by {method} on "
        f"{quantity.name}{f' in {quantity.unit}' if quantity.unit else ''}: {quantity.description}. {run.data_text} "
        f"Made with modelbuilder from the spec {spec.name}, digest {run.about['digest']}."
    )
    return f"""import darkcast
notes = {notes!a}
bibtex = {", ".join(spec.papers)!a}
# The search is {ascii("; ".join(processes))[1:-1]}; the names that Darkcast has for it are to be filled in.
model = darkcast.Model("FILL_IN")
production = darkcast.Production("FILL_IN")
decay = "FILL_IN"
bounds = darkcast.Dataset({f"limits/{stem}.lmt"!a})
{_EFFICIENCY[flies]}
"""
