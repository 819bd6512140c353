"""JSON files from outside."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from modelbuilder.errors import InputFileError
from modelbuilder.workspace import files
from modelbuilder.workspace.files import read_json


def test_good_json(tmp_path: Path) -> None:
    """Catches numbers or names that change on the way in."""
    path = tmp_path / "x.json"
    path.write_text('{"a": [1, 2.5e-300, "α"], "b": {"a": null}}', encoding="utf-8")
    assert read_json(path) == {"a": [1, 2.5e-300, "α"], "b": {"a": None}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,}', r"x\.json:1:\d+: not valid JSON"),
        (b"", r"x\.json:1:1: not valid JSON"),
        (b'{"a": NaN}', "found NaN; a number must be finite"),
        (b'{"a": -Infinity}', "found -Infinity; a number must be finite"),
        (b'{"a": 1e999}', "finite"),
        (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' stands twice"),
        (b"[" * 200_000 + b"]" * 200_000, "nested too deeply"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b'{"a": ' + b"9" * 5000 + b"}", "x.json"),
    ],
    ids=["comma", "empty", "nan", "infinity", "overflow", "duplicate", "deep", "encoding", "digits"],
)
def test_bad_json(tmp_path: Path, content: bytes, message: str) -> None:
    """Catches untrusted input that ends in a traceback, or in a workspace with infinities."""
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(InputFileError, match=message):
        read_json(path)


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    """Catches a missing file, or a folder in its place, that is a failure of ours."""
    with pytest.raises(InputFileError, match=re.escape("none.json: no such file")):
        read_json(tmp_path / "none.json")
    with pytest.raises(InputFileError, match="cannot be read"):
        read_json(tmp_path)


def test_size_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a file of any size that is read into memory."""
    path = tmp_path / "x.json"
    path.write_text("[" + "1, " * 100 + "1]", encoding="utf-8")
    monkeypatch.setattr(files, "MAX_BYTES", 100)
    with pytest.raises(InputFileError, match="larger than"):
        read_json(path)
