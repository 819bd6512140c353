"""The whole way of a change: one systematic of one spec is changed by 1 %, and every command says that and nothing else."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.cli import main

from .conftest import SMALL
from .test_check import pytest_in

Cli = Callable[..., tuple[int, Any]]
CHANGE = "systematics.efficiency.size: 10 % -> 10.1 % (+1 %)"


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """Runs a command; its exit code, and what it prints as lines, or as a document with --json."""

    def run(*arguments: object) -> tuple[int, Any]:
        monkeypatch.setattr(sys, "argv", ["modelbuilder", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        output = capsys.readouterr().out
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, json.loads(output) if "--json" in arguments else output.splitlines()

    return run


def test_one_per_cent_of_one_systematic(small: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a yield, a shape or a parameter that moves along, a limit that does not, and a report that hides either."""
    monkeypatch.chdir(tmp_path)
    spec, one, two = small.relative_to(tmp_path), Path("one"), Path("two")
    assert cli("run", spec, "-o", "zero", "--jobs", 1, "--cache", "kept")[0] == 0
    rows = {row["point"]: row for row in json.loads(Path("zero/limits.json").read_text())["rows"]}
    limit = rows["m_a_2p0000"]["cross_section_fb_expected"]
    small.write_text(
        SMALL
        + "tests:\n"
        + "  - {quantity: yield(combinatorial), at: {m_a: 2 GeV}, above: 0}\n"
        + "  - {quantity: efficiency(signal), at: {m_a: 2 GeV}, above: 0}\n"
        + f"  - {{quantity: expected(cross_section_fb), at: {{m_a: 2 GeV}}, equals: {limit!r}, within: 0.001 %}}\n"
    )
    assert cli("run", spec, "-o", one, "--jobs", 1, "--cache", "kept")[0] == 0
    assert cli("lock", spec, "--jobs", 1, "--cache", "kept")[0] == 0
    assert cli("check", spec, "--jobs", 1, "--cache", "kept")[0] == 0
    assert cli("plan", spec, "-o", one) == (0, ["nothing to do: one is what the spec asks for"])
    base = tmp_path / "base.yaml"
    base.write_text(small.read_text().replace("belle2.yaml", "specs/belle2.yaml"))
    small.write_text(small.read_text().replace("size: 10 %", "size: 10.1 %"))

    # plan and why: the workspaces and the limits, and why; nothing is simulated
    code, lines = cli("plan", spec, "-o", one)
    assert (code, lines[:-1]) == (
        1,
        [
            f"changed     {CHANGE}",
            "again       workspaces: systematics.efficiency.size",
            "again       limits: systematics.efficiency.size",
        ],
    )
    line = 1 + small.read_text().splitlines().index(next(t for t in small.read_text().splitlines() if "10.1 %" in t))
    assert cli("why", spec, "--from", one, "--point", 2) == (
        1,
        [
            "m_a_2p0000, against one",
            f"changed {CHANGE}  ({spec}:{line})",
            "again     workspaces, limits",
            "same    signal",
        ],
    )
    before = sorted(Path("kept").rglob("*.npz"))
    assert cli("run", spec, "-o", two, "--jobs", 1, "--cache", "kept")[0] == 0
    assert sorted(Path("kept").rglob("*.npz")) == before

    # diff of the specs, and of the runs: the size in the spec and in each workspace, and limits, each a little larger
    assert cli("diff", base, spec) == (1, ["spec", f"  {CHANGE}"])
    code, document = cli("diff", one, two, "--json")
    changes = document["changes"]
    assert code == 1
    assert {change["kind"] for change in changes} == {"spec", "uncertainty", "limit"}
    sizes = {c["what"]: c["after"] for c in changes if c["kind"] == "uncertainty"}
    assert sizes == {
        "efficiency on diphoton/signal, up": pytest.approx(0.101, rel=1e-12),
        "efficiency on diphoton/signal, down": pytest.approx(1.0 / 1.101 - 1.0, rel=1e-12),
    }
    moved = {c["what"]: c for c in changes if c["kind"] == "limit" and "local_significance" not in c["what"]}
    assert all(re.fullmatch(r"\w+_(observed|expected(_[mp][12])?), cls", what) for what in moved)
    assert "cross_section_fb_expected, cls" in moved
    assert all(0.0 < abs(change["relative"]) < 0.01 for change in moved.values())

    # check: the one test of a limit
    code, document = cli("check", spec, "--jobs", 1, "--json")
    tests = document[0]["tests"]
    assert (code, [test["passed"] for test in tests]) == (1, [True, True, False])
    assert re.search(r"within 0\.001 % \(\+0\.\d+ %\)$", tests[2]["text"])

    # pytest: the lock file by that line and by limits, the same test, and nothing else
    found = pytest_in(tmp_path)
    assert "2 failed, 2 passed" in found.stdout, found.stdout
    report = found.stdout.partition("--update-locks\n")[2].partition("\n_")[0].splitlines()
    assert report[0].strip() == CHANGE
    assert all(re.match(r"  \w+_(observed|expected(_[mp][12])?|significance), cls: ", text) for text in report[1:])
    assert found.stdout.count("\nMOVED  ") == 1
