"""The table of limits: one row per grid point and method, with names that carry the units."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modelbuilder.spec.rates import Rate

Row = dict[str, str | float | None]

CTAU = "ctau_cm"
"""The column of the lifetime that is scanned."""
BANDS = ("expected_m2", "expected_m1", "expected", "expected_p1", "expected_p2")


def has_own_lifetime(row: Mapping[str, Any]) -> bool:
    """Whether a row of a table has couplings at the lifetime that they give themselves, in place of a fit."""
    return CTAU in row and row[CTAU] is None


@dataclass(frozen=True)
class Quantity:
    """A limited quantity; its name ends with the unit. reopens: whether large values may be allowed again."""

    name: str
    unit: str
    description: str
    reopens: bool = False


MU = Quantity("mu", "", "signal strength, in units of the reference")
YIELD = Quantity("yield_events", "events", "selected signal events: all that are made times the efficiency")
VISIBLE_CROSS_SECTION = Quantity(
    "visible_cross_section_fb", "fb", "cross section times efficiency: selected signal events over luminosity"
)


def quantity_of(rate: Rate) -> Quantity:
    """A rate that is limited."""
    return Quantity(rate.column, rate.unit, rate.text)


_HEAD = {
    "channel": ("", "the channel that was fitted"),
    "method": ("", "how the limit was found"),
    "confidence_level": ("", "confidence level of the limit"),
    "status": ("", "ok, or the name of the failure"),
    "data": ("", "observed, pseudo:SEED for simulated data, or asimov"),
    "local_significance": ("", "of an excess at this point alone, in standard deviations"),
}
_NOTES = {
    "toys": ("", "per hypothesis, where the limit was found with toys"),
    "warnings": ("", "what to keep in mind, such as asymptotic formulas with few events"),
}
Tail = Mapping[str, tuple[str, str]]
UPPER_EDGE = "upper_edge"
_BAND_TEXT = {
    "observed": "observed limit",
    "expected_m2": "expected limit, -2 sigma",
    "expected_m1": "expected limit, -1 sigma",
    "expected": "expected limit, median",
    "expected_p1": "expected limit, +1 sigma",
    "expected_p2": "expected limit, +2 sigma",
}


def tail_of_search(rate: Rate, *, with_lifetime: bool = False) -> Tail:
    """The last columns of a search with limits on this rate."""
    stdev = {
        "signal_efficiency_stdev": (
            "",
            "statistical error of it, from the sample of the shape and the one that lifetimes are from",
        )
    }
    return {
        "signal_efficiency": ("", "of the signal, acceptance included, before the fit window"),
        **(stdev if with_lifetime else {}),
        "background_events": ("events", "expected background entries in the fit window"),
        rate.reference: (rate.unit, f"{rate.kind} at mu = 1"),
        **_NOTES,
    }


def tail_of_combination(coupling: Quantity) -> Tail:
    """The last columns of a combination with this coupling."""
    return {
        "searches": ("", "those that take part at this point"),
        "background_events": ("events", "expected background entries in the fit windows"),
        f"reference_{coupling.name}": (coupling.unit, f"{coupling.name} at mu = 1"),
        **_NOTES,
    }


def columns(
    variables: Sequence[str], quantities: Sequence[Quantity], tail: Tail, *, with_lifetime: bool = False
) -> list[dict[str, str]]:
    """All columns in order, each with name, unit and description."""
    found = [_column("point", "", "name of the grid point")]
    found.extend(_column(f"{variable}_gev", "GeV", "mass hypothesis") for variable in variables)
    if with_lifetime:
        about = "c tau that the limit holds for; empty where it is that of the coupling"
        found.append(_column(CTAU, "cm", about))
    found.extend(_column(name, *about) for name, about in _HEAD.items())
    for quantity in quantities:
        for band, text in _BAND_TEXT.items():
            found.append(_column(f"{quantity.name}_{band}", quantity.unit, f"{text} on: {quantity.description}"))
        if quantity.reopens:
            for band in ("observed", "expected"):
                about = f"{band}: largest excluded value, where larger ones are allowed again: {quantity.description}"
                found.append(_column(f"{quantity.name}_{band}_{UPPER_EDGE}", quantity.unit, about))
    found.extend(_column(name, *about) for name, about in tail.items())
    return found


def to_csv(columns: Sequence[Mapping[str, str]], rows: Iterable[Row]) -> str:
    """CSV text; numbers in full precision, missing ones empty."""
    stream = io.StringIO()
    names = [column["name"] for column in columns]
    writer = csv.DictWriter(stream, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: "" if row.get(name) is None else row[name] for name in names})
    return stream.getvalue()


def to_json(columns: Sequence[Mapping[str, str]], rows: Iterable[Row], about: Mapping[str, Any]) -> str:
    """JSON text with the same rows, and the unit and description of each column."""
    names = [column["name"] for column in columns]
    table = [{name: row.get(name) for name in names} for row in rows]
    return json.dumps({**about, "columns": list(columns), "rows": table}, indent=1, allow_nan=False) + "\n"


def _column(name: str, unit: str, description: str) -> dict[str, str]:
    return {"name": name, "unit": unit, "description": description}
