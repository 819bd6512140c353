"""The numbers of a figure, as columns that are written beside it: NAME.csv beside NAME.pdf and NAME.png."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from modelbuilder.scan.store import write_atomically

Cell = float | str | None
Numbers = Mapping[str, Sequence[Cell] | npt.NDArray[np.float64]]
"""Columns by name, all of one length; the unit ends the name as in `limits.csv`. What is missing is None or NaN."""


def write_numbers(path: Path, numbers: Numbers) -> Path:
    """Write the columns as CSV, in full precision; what is missing is an empty cell. Returns the path."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(numbers)
    rows.writerows([_text(cell) for cell in row] for row in zip(*numbers.values(), strict=True))
    write_atomically(path, text.getvalue(), through=False)
    return path


def unit_ending(unit: str) -> str:
    """How a unit ends the name of a column: `_gev2` for GeV^2, nothing for a number."""
    return "" if unit in ("", "1") else "_" + unit.lower().replace("^-1", "_inverse").replace("^", "")


def _text(cell: Any) -> str:
    if cell is None or isinstance(cell, str):
        return cell or ""
    number = float(cell)
    return repr(number) if math.isfinite(number) else ""
