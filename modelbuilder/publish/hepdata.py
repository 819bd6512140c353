"""A HEPData submission: YAML files written by hand, checked by HEPData's own validator.

hepdata_lib would write the same, but its archives differ from one second to the next, it needs ImageMagick for thumbnails,
and it takes longer than the limits did. What it knows about the format, its validator knows too.
"""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from modelbuilder.errors import BundleError
from modelbuilder.publish.tables import Band, Bin, Table, Variable

DIGITS = 6
"""Significant digits of the tables."""
MAX_TABLE_BYTES = 10_000_000
"""HEPData takes data files of 10,485,760 bytes at most."""
MAX_UPLOAD_BYTES = 50_000_000
"""HEPData takes submissions of 50 MB at most, according to its pages."""
MAX_NAME = 64
THUMBNAIL_WIDTH = 200  # pixels
LICENCES = {
    "CC0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC-BY-4.0": "https://creativecommons.org/licenses/by/4.0/",
}


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A file, or an address, that belongs to the whole submission."""

    location: str
    description: str
    type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Submission:
    """What `submission.yaml` says. cm_energies: in GeV."""

    comment: str
    licence: str
    cm_energies: tuple[float, ...]
    reactions: tuple[str, ...]
    phrases: tuple[str, ...]
    resources: tuple[Resource, ...]
    tables: tuple[Table, ...]


def write_submission(folder: Path, submission: Submission, *, max_table_bytes: int = MAX_TABLE_BYTES) -> None:
    """Write the tables, their figures and `submission.yaml`. The files of the resources must be there already."""
    licence = {"name": submission.licence, "url": LICENCES[submission.licence]}
    documents = [_first_document(submission, licence)]
    names: set[str] = set()
    copied: dict[Path, list[Json]] = {}
    for table in submission.tables:
        for part, text in _parts(table, max_table_bytes):
            name = _unique(part.name, names)
            file = f"{part.file}.yaml"
            (folder / file).write_text(text, encoding="utf-8", newline="\n")
            copied |= {path: _copy_figure(path, folder) for path in part.figures if path not in copied}
            pictures = [resource for path in part.figures for resource in copied[path]]
            documents.append(
                {
                    "name": name,
                    "description": part.description,
                    "keywords": [
                        {"name": "cmenergies", "values": list(submission.cm_energies)},
                        {"name": "observables", "values": [part.observable]},
                        {"name": "reactions", "values": list(submission.reactions)},
                        {"name": "phrases", "values": list(submission.phrases)},
                    ],
                    "data_file": file,
                    "data_license": licence,
                    **({"additional_resources": pictures} if pictures else {}),
                }
            )
    text = "---\n".join("".join(f"{key}: {_flow(value)}\n" for key, value in entry.items()) for entry in documents)
    (folder / "submission.yaml").write_text(text, encoding="utf-8", newline="\n")


Json = dict[str, Any]


def check_submission(folder: Path) -> None:
    """Raise BundleError unless HEPData's validator finds nothing, and no number is missing its value."""
    with warnings.catch_warnings():  # it uses names of jsonschema that are on their way out; hence our jsonschema < 5
        warnings.filterwarnings("ignore", message=r"jsonschema\.", category=DeprecationWarning)
        warnings.simplefilter("ignore", ResourceWarning)  # it leaves files open
        from hepdata_validator.full_submission_validator import FullSubmissionValidator

        validator = FullSubmissionValidator(autoload_remote_schemas=False)
        valid = validator.validate(directory=str(folder))
    if not valid:
        messages = [
            f"{Path(file).name}: {m.message}" for file, found in validator.get_messages().items() for m in found
        ]
        msg = f"the submission is not what HEPData takes: {'; '.join(messages[:5])}"
        raise BundleError(msg)


def table_text(table: Table) -> str:
    """The data file of a table. Raises BundleError for a number that is not finite."""
    lines: list[str] = []
    for head, variables in (("independent_variables", table.independent), ("dependent_variables", table.dependent)):
        lines.append(f"{head}:")
        for variable in variables:
            header = {"name": variable.name, **({"units": units_text(variable.units)} if variable.units else {})}
            lines.append(f"- header: {_flow(header)}")
            if head == "dependent_variables" and variable.qualifiers:
                lines.append("  qualifiers:")
                for name, (value, units) in variable.qualifiers.items():
                    entry = {"name": name, **({"units": units} if units else {}), "value": value}
                    lines.append(f"  - {_flow(entry)}")
            lines.append("  values:")
            lines.extend(f"  - {text}" for text in _values(table, variable))
    return "\n".join(lines) + "\n"


def _values(table: Table, variable: Variable) -> Iterator[str]:
    bands = variable.bands or ((),) * len(variable.values)
    for value, around in zip(variable.values, bands, strict=True):
        if isinstance(value, Bin):
            if not (math.isfinite(value.low) and math.isfinite(value.high)):
                msg = f"table {table.name!r}, {variable.name}: found a bin whose ends are not finite; a table has none"
                raise BundleError(msg)
            yield f"{{low: {number(value.low)}, high: {number(value.high)}}}"
            continue
        if value is None or isinstance(value, str):
            yield f"{{value: {_flow('-' if value is None else value)}}}"
            continue
        if not all(math.isfinite(x) for x in (value, *(end for band in around for end in (band.low, band.high)))):
            msg = f"table {table.name!r}, {variable.name}: found a number that is not finite; a table has none"
            raise BundleError(msg)
        errors = [text for band in around if (text := _error(value, band))]
        yield f"{{value: {number(value)}{', errors: [' + ', '.join(errors) + ']' if errors else ''}}}"


def _error(value: float, band: Band) -> str:
    """The band as distances from the value, of the rounded numbers exactly; nothing if both are zero, which is refused."""
    middle = Decimal(number(value))
    minus, plus = (float(Decimal(number(end)) - middle) for end in (band.low, band.high))
    if minus == plus == 0.0:
        return ""
    ends = f"minus: {_plain(minus)}, plus: {_plain(plus)}"
    return f"{{label: {_flow(band.label)}, asymerror: {{{ends}}}}}"


def number(value: float) -> str:
    """A number with DIGITS significant digits, as YAML 1.1 reads it."""
    return _plain(float(f"{value:.{DIGITS - 1}e}"))


def _plain(value: float) -> str:
    text = repr(value + 0.0)
    if "e" in text and "." not in text:  # 1e-05 would be a word
        text = text.replace("e", ".0e")
    return text


def units_text(units: str) -> str:
    """`GeV^-1` as HEPData typesets it."""
    base, hat, power = units.partition("^")
    return f"{base}$^{{{power}}}$" if hat else units


def _parts(table: Table, limit: int) -> Iterator[tuple[Table, str]]:
    """The table and its text; in several parts of about the same length where one file would be too long."""
    text = table_text(table)
    size = len(text.encode("utf-8"))
    if size <= limit:
        yield table, text
        return
    number_of_parts = -(-size * 11 // (10 * limit))  # ceil, with a tenth to spare
    length = len(table.independent[0].values)
    step = -(-length // number_of_parts)
    for index, start in enumerate(range(0, length, step), start=1):

        def cut(variable: Variable, start: int = start) -> Variable:
            return replace(
                variable, values=variable.values[start : start + step], bands=variable.bands[start : start + step]
            )

        part = replace(
            table,
            name=f"{table.name[: MAX_NAME - 12]}, part {index}",
            file=f"{table.file}_part_{index}",
            description=f"{table.description} Rows {start + 1} to {min(start + step, length)} of {length}.",
            independent=tuple(cut(variable) for variable in table.independent),
            dependent=tuple(cut(variable) for variable in table.dependent),
        )
        yield part, table_text(part)


def _first_document(submission: Submission, licence: Mapping[str, str]) -> Json:
    resources = [
        {
            "location": resource.location,
            "description": resource.description,
            **({"type": resource.type} if resource.type else {}),
            "license": dict(licence),
        }
        for resource in submission.resources
    ]
    return {"comment": submission.comment, "additional_resources": resources}


def _copy_figure(figure: Path, folder: Path) -> list[Json]:
    """A figure and its thumbnail, named as HEPData looks for them."""
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    shutil.copyfile(figure, folder / figure.name)
    thumbnail = f"thumb_{figure.name}"
    pixels = imread(figure)
    height, width = pixels.shape[:2]
    scale = min(1.0, THUMBNAIL_WIDTH / width)
    small = Figure(figsize=(scale * width / 100.0, scale * height / 100.0), dpi=100)
    axes = small.add_axes((0.0, 0.0, 1.0, 1.0), frameon=False, xticks=[], yticks=[])
    axes.imshow(pixels, aspect="auto", interpolation="bilinear", resample=True)
    small.savefig(folder / thumbnail, metadata={"Software": None})
    return [
        {"description": "Image file", "location": figure.name},
        {"description": "Thumbnail image file", "location": thumbnail},
    ]


def _unique(name: str, names: set[str]) -> str:
    found, count = name, 1
    while found in names:
        count += 1
        found = f"{name[: MAX_NAME - 6]} ({count})"
    names.add(found)
    return found


def _flow(value: Any) -> str:
    """A value in YAML's flow style; text always in quotes, on one line."""
    if isinstance(value, str):
        return json.dumps("".join(c if c.isprintable() else " " for c in value), ensure_ascii=False)
    if isinstance(value, float):
        return _plain(value)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ", ".join(_flow(item) for item in value) + "]"
    return str(value)
