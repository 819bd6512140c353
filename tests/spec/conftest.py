"""What the tests of the spec language share."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.spec.check_file import check_file

ALP = "specs/belle2/alp_gammagamma_2018.yaml"
EXP = "specs/experiments/belle2.yaml"
CSV = "specs/belle2/data/alp_gammagamma_resolution.csv"
FILES = {"A": ALP, "E": EXP, "C": CSV}

Edit = Callable[[str, str, str], None]


@pytest.fixture
def counted_calls() -> Callable[[Callable[[], object]], int]:
    """A function that runs another and counts the calls made within: work that no busy machine can change."""

    def count(work: Callable[[], object]) -> int:
        calls = 0

        def profile(frame: Any, event: str, argument: object) -> None:
            nonlocal calls
            calls += event in {"call", "c_call"}

        sys.setprofile(profile)
        try:
            work()
        finally:
            sys.setprofile(None)
        return calls

    return count


@pytest.fixture
def specs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of a frozen search in a temporary folder, which becomes the working directory: our own specs may change."""
    shutil.copytree(Path(__file__).parent / "data" / "specs", tmp_path / "specs")
    monkeypatch.chdir(tmp_path)
    return Path(ALP)


@pytest.fixture
def edit(specs: Path) -> Edit:
    """A function that replaces the first `old` by `new` in one of the copied files, named by its letter in FILES."""

    def replace(letter: str, old: str, new: str) -> None:
        path = Path(FILES[letter])
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {path}: the test has to follow the spec"
        path.write_text(text.replace(old, new, 1), encoding="utf-8")

    return replace


@pytest.fixture
def problems(specs: Path) -> Callable[[], list[str]]:
    """A function that checks the copied search: the lines that `validate` prints, files as in FILES, folder as HERE."""

    def lines() -> list[str]:
        found = [str(problem) for problem in check_file(specs).problems]
        for letter, name in FILES.items():
            found = [f"{letter}{line.removeprefix(name)}" if line.startswith(name) else line for line in found]
        return [line.replace(str(Path.cwd()), "HERE") for line in found]

    return lines
