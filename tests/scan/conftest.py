"""What the tests of runs share: small searches, runs in processes of their own, and comparing directories."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelbuilder.spec.load import LoadedSearch, load_search

SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "alp_gammagamma_2018.yaml"
TINY = ("signal.events=5000", "backgrounds.three_photon.events=50000")
VARIABLE = ("started", "finished", "command")
"""What may differ in `run.json` between two runs that did the same."""

Tree = dict[str, bytes]


@pytest.fixture(scope="session")
def tiny() -> Callable[..., LoadedSearch]:
    """Our search with very few events."""

    def make(*overrides: str) -> LoadedSearch:
        return load_search(SPEC, overrides=(*TINY, *overrides))

    return make


@pytest.fixture(scope="session")
def files_of() -> Callable[[Path], Tree]:
    """Every file of a run by its name, with the times taken out of `run.json`."""

    def read(path: Path) -> Tree:
        found = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
        if "run.json" in found:
            about = json.loads(found["run.json"])
            found["run.json"] = json.dumps({k: v for k, v in about.items() if k not in VARIABLE}).encode()
        return found

    return read


class Process:
    """`modelbuilder` in a process of its own, which leads a process group."""

    def __init__(self, *arguments: str | Path, cwd: Path | None = None) -> None:
        command = [sys.executable, "-m", "modelbuilder", *map(str, arguments)]
        self.popen = subprocess.Popen(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> tuple[int, str, str]:
        """Exit code, standard output, standard error."""
        output, errors = self.popen.communicate(timeout=240)
        return self.popen.returncode, output, errors

    def send(self, signal_number: int) -> None:
        if self.popen.poll() is None:
            self.popen.send_signal(signal_number)

    def group_is_gone(self, within: float) -> bool:
        """Whether no process of the group is left."""
        end = time.monotonic() + within
        while time.monotonic() < end:
            try:
                os.killpg(self.popen.pid, 0)
            except ProcessLookupError:
                return True
            time.sleep(0.1)
        return False

    def clean_up(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.popen.pid, 9)
        self.popen.communicate()


@pytest.fixture
def start() -> Iterator[Callable[..., Process]]:
    """Starts processes, and ends what is left of them."""
    running: list[Process] = []

    def begin(*arguments: str | Path, cwd: Path | None = None) -> Process:
        running.append(Process(*arguments, cwd=cwd))
        return running[-1]

    yield begin
    for process in running:
        process.clean_up()
