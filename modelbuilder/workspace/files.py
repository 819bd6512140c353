"""JSON files from outside, read as untrusted input."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from modelbuilder.errors import InputFileError

MAX_BYTES = 1_000_000_000


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises InputFileError if it is missing, larger than `MAX_BYTES`, not JSON, or has duplicate keys, NaN or infinities.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path}: larger than {MAX_BYTES / 1e9:g} GB"
            raise InputFileError(msg)
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"{path}: no such file"
        raise InputFileError(msg) from None
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read: {error}"
        raise InputFileError(msg) from None
    try:
        return json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite, parse_int=_whole, object_pairs_hook=_unique
        )
    except json.JSONDecodeError as error:
        msg = f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}"
        raise InputFileError(msg) from None
    except RecursionError:
        msg = f"{path}: nested too deeply"
        raise InputFileError(msg) from None
    except ValueError as error:
        msg = f"{path}: {error}"
        raise InputFileError(msg) from None


def _refuse_constant(name: str) -> Any:
    msg = f"found {name}; a number must be finite"
    raise ValueError(msg)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        msg = f"found {text}, which is too large; a number must be finite"
        raise ValueError(msg)
    return value


def _whole(text: str) -> int:
    _finite(text)  # what cannot be a floating-point number is no number of a workspace
    return int(text)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        msg = f"the key {twice!r} stands twice in one object"
        raise ValueError(msg)
    return found
