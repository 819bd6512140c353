"""Runs: the same every time, resumed wherever they were stopped, never mixed."""

from __future__ import annotations

import fcntl
import json
import math
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.errors import RunDirectoryError
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import LoadedSearch

from .conftest import SPEC, TINY, Process, Tree

Tiny = Callable[..., LoadedSearch]
Files = Callable[[Path], Tree]
Start = Callable[..., Process]

SETTINGS = [argument for override in TINY for argument in ("--set", override)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny) -> Path:
    """Six points in one process."""
    path = tmp_path_factory.mktemp("reference") / "out"
    run_search(tiny(), path, points=6, jobs=1)
    return path


def test_what_a_run_writes(reference: Path, tiny: Tiny, files_of: Files) -> None:
    """Catches a file that is missing, or that nobody has asked for."""
    names = set(files_of(reference))
    search = tiny()
    points = {json.loads(line)["point"] for line in (reference / "points.jsonl").read_text().splitlines()}
    assert len(points) == 6
    assert {search.points[0].name, search.points[-1].name} <= points
    expected = {"run.json", "spec.resolved.yaml", "points.jsonl", "limits.csv", "limits.json", "lint.txt", ".lock"}
    expected |= {f"workspaces/{name}.json" for name in points} | {f"templates/{name}.json" for name in points}
    expected |= {f"templates/background_{region}.json" for region in ("diphoton_1", "diphoton_2", "recoil")}
    assert names == expected


def test_about_the_run(reference: Path, tiny: Tiny) -> None:
    """Catches a run that does not say what it was made from: digest, seeds, versions, counts."""
    about = json.loads((reference / "run.json").read_text())
    search = tiny()
    assert about["digest"] == search.digest
    assert (about["seed"], about["data"]) == (1, {"kind": "pseudo", "seed": 2018})
    assert about["points"] == {"grid": len(search.points), "done": 6}
    assert about["rows"] == {"ok": 12, "failed": 0}
    assert {"modelbuilder", "numpy", "pyhf", "numba"} <= set(about["versions"])
    assert about["started"] <= about["finished"]


def test_the_resolved_spec_asks_for_the_same(reference: Path, tiny: Tiny) -> None:
    """Invariant: catches a resolved spec that loses an override, a table or a digit."""
    search, rows = load_run(reference)
    assert search.digest == tiny().digest
    assert search.points == tiny().points
    assert len(rows) == 12


@pytest.mark.parametrize("jobs", [1, 2])
def test_twice_the_same_to_the_byte(jobs: int, reference: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Invariant: catches anything that depends on time, on the order of processes, or on their number."""
    run_search(tiny(), tmp_path / "out", points=6, jobs=jobs)
    found, expected = files_of(tmp_path / "out"), files_of(reference)
    assert set(found) == set(expected)
    assert [name for name in found if found[name] != expected[name]] == []


def test_more_points_later(reference: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Invariant: catches points that depend on which others are in the run: a small run grows into a larger one."""
    path = tmp_path / "out"
    first = run_search(tiny(), path, points=2, jobs=1)
    assert (first.points, first.resumed) == (2, 0)
    second = run_search(tiny(), path, points=6, jobs=1)
    assert (second.points, second.resumed) == (6, 2)
    found, expected = files_of(path), files_of(reference)
    assert [name for name in found if found[name] != expected.get(name)] == []


def test_build_then_run(reference: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Catches workspaces without limits that count as finished points, and a build that writes limits."""
    path = tmp_path / "out"
    run_search(tiny(), path, points=2, jobs=1, limits=False)
    assert not (path / "limits.csv").exists()
    assert len(list((path / "workspaces").iterdir())) == 2
    for workspace in (path / "workspaces").iterdir():
        assert workspace.read_bytes() == (reference / "workspaces" / workspace.name).read_bytes()
    assert run_search(tiny(), path, points=2, jobs=1).resumed == 0
    assert len(load_run(path)[1]) == 4


def test_an_interrupt_waits_until_workers_have_begun() -> None:
    """Catches a worker that is interrupted while it is still importing, with a traceback among the messages; and an
    interrupt that is lost. The process that begins stands for a worker, which says later what it does with interrupts.
    """
    program = """
import os, signal, subprocess, sys
from modelbuilder.scan.run import _interrupts_wait
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with _interrupts_wait():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(0.5); print('child at its end')"])
        os.killpg(0, signal.SIGINT)
        print("end of the block", flush=True)
    print("not interrupted")
except KeyboardInterrupt:
    print("interrupted", flush=True)
child.wait()
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, start_new_session=True)
    assert done.stdout.splitlines() == ["end of the block", "interrupted", "child at its end"]
    assert done.stderr == ""


def test_killed_at_any_moment(reference: Path, tmp_path: Path, start: Start, files_of: Files) -> None:
    """Invariant: catches a run that a SIGKILL spoils, and workers that outlive it: three of them, then the end is as if nothing had happened."""
    path = tmp_path / "out"
    command = ("run", SPEC, "-o", path, "--points", "6", "--jobs", "2", *SETTINGS)
    dice = random.Random(5)
    journal = path / "points.jsonl"
    finished = 0
    for kill in range(3):
        process = start(*command)
        # kills before the first file, between the files, and a little after a new point
        waits_for_point = kill >= 2
        end = time.monotonic() + 120.0
        while process.popen.poll() is None and time.monotonic() < end:
            started = (path / "run.json").exists() if kill else path.exists()
            now = journal.read_bytes().count(b"\n") if journal.exists() else 0
            if now > finished or (started and not waits_for_point):
                break
            time.sleep(0.005)
        time.sleep(dice.uniform(0.0, 0.3) * (kill > 0))
        process.send(signal.SIGKILL)
        process.popen.wait()
        assert process.group_is_gone(within=30.0), "worker processes outlive the one that was killed"
        after = journal.read_bytes().count(b"\n") if journal.exists() else 0
        assert after >= finished, "a finished point was lost"
        finished = after
    code, _, errors = start(*command).finish()
    assert code == 0, errors
    shutil.rmtree(path / "figures")
    found, expected = files_of(path), files_of(reference)
    assert set(found) == set(expected)
    different = [name for name in found if found[name] != expected[name]]
    assert different == []


FAST = (
    SPEC.parents[1] / "belle" / "leptophilic_scalar_ee.yaml",
    "--points",
    "12",
    "--jobs",
    "1",
    "--set",
    "signal.events=1000",
)
"""Of its background nothing is simulated: a process that is killed has cost little."""


def test_killed_twenty_times_at_random(tmp_path: Path, start: Start, files_of: Files) -> None:
    """Invariant: whatever was reported as done is there after a SIGKILL and stays as it was, and once a run has come to
    its end, its bytes are those of one that nobody disturbed. Catches a point that is counted before it is safe, and a
    file of which a killed process has left a part.
    """

    def results(path: Path) -> Tree:
        return {name: text for name, text in files_of(path).items() if not name.startswith("figures/")}

    def entries(path: Path) -> dict[str, bytes]:
        lines = (path / "points.jsonl").read_bytes().split(b"\n")[:-1] if (path / "points.jsonl").exists() else []
        return {json.loads(line)["point"]: line for line in lines}

    def steps(path: Path) -> int:
        """How far a run has come: its files, and lines of the journal."""
        folders = [folder for folder in (path, path / "templates", path / "workspaces") if folder.is_dir()]
        journal = path / "points.jsonl"
        return sum(len(list(f.iterdir())) for f in folders) + (
            journal.read_bytes().count(b"\n") if journal.exists() else 0
        )

    def run_for(path: Path, wanted: int, rest: float) -> tuple[int, int]:
        """Kill so many steps and seconds further on; exit code, and points that were reported as done."""
        process, before, end = start("run", *FAST, "-o", path), steps(path), time.monotonic() + 120.0
        while process.popen.poll() is None and steps(path) < before + wanted and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(rest)
        process.send(signal.SIGKILL)
        code, _, errors = process.finish()
        return code, max([0, *map(int, re.findall(r"limits: (\d+) of 12 points", errors))])

    undisturbed = tmp_path / "undisturbed"
    assert start("run", *FAST, "-o", undisturbed).finish()[0] == 0
    dice, kills, ends, within = random.Random(20), 0, 0, 0
    path = tmp_path / "0"
    known: dict[str, bytes] = {}
    while kills < 20:
        code, reported = run_for(path, dice.randint(1, 12), dice.uniform(0.0, 0.02))
        kills += code == -signal.SIGKILL
        now = entries(path)
        assert len(now) >= reported, "a point was reported and is lost"
        assert {name: now.get(name) for name in known} == known, "a finished point was lost, or has changed"
        within += 0 < len(now) < 12
        known = now
        if code == 0 or kills == 20:
            assert start("run", *FAST, "-o", path).finish()[0] == 0
            found, expected = results(path), results(undisturbed)
            assert set(found) == set(expected)
            assert [name for name in found if found[name] != expected[name]] == []
            ends += 1
            path, known = tmp_path / str(ends), {}
    assert within >= 5, "hardly a run was killed between its points"


@pytest.mark.parametrize("rest", [b'{"point": "m_a', b"", b"\xff\xfe", b'{"point": "x", "rows": [], "lint": []}'])
def test_a_line_that_was_cut_short(rest: bytes, reference: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Catches a journal that a killed process makes unreadable; the cut line's point is done again."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    lines = (path / "points.jsonl").read_bytes().splitlines(keepends=True)
    (path / "points.jsonl").write_bytes(b"".join(lines[:3]) + rest)
    assert run_search(tiny(), path, points=6, jobs=1).resumed == 3
    found, expected = files_of(path), files_of(reference)
    assert [name for name in found if found[name] != expected[name]] == []


def test_a_damaged_journal_is_refused(reference: Path, tmp_path: Path, tiny: Tiny) -> None:
    """Catches damage in the middle, which no killed process makes, that is taken for a short run."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    lines = (path / "points.jsonl").read_bytes().splitlines(keepends=True)
    (path / "points.jsonl").write_bytes(lines[0][:50] + b"\n" + lines[1])
    with pytest.raises(RunDirectoryError, match=r"points\.jsonl: damaged"):
        run_search(tiny(), path, points=6, jobs=1)


def test_what_a_killed_process_leaves_behind(reference: Path, tmp_path: Path, tiny: Tiny, files_of: Files) -> None:
    """Catches a resolved spec that is missing for good after a kill at the start, and temporary files that stay."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    (path / "spec.resolved.yaml").unlink()
    (path / "workspaces" / ".m_a_0p2000.json.123.tmp").write_text("{")
    (path / ".run.json.123.tmp").write_text("{")
    run_search(tiny(), path, points=6, jobs=1)
    assert files_of(path) == files_of(reference)


def everything(path: Path) -> dict[str, bytes]:
    return {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_another_spec_is_refused(reference: Path, tmp_path: Path, start: Start) -> None:
    """Catches results of two specs in one table: exit code 2, and nothing in the directory has changed."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    before = everything(path)
    changes = ("--set", "luminosity.value=50 fb^-1")
    code, output, errors = start("run", SPEC, "-o", path, "--points", "6", *SETTINGS, *changes).finish()
    assert (code, output) == (2, "")
    assert "holds a run of another spec (belle2-alp-gammagamma-2018, digest " in errors
    assert "choose another directory" in errors
    assert everything(path) == before


def test_other_versions_are_refused(reference: Path, tmp_path: Path, tiny: Tiny) -> None:
    """Catches results of two versions in one table."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    about = json.loads((path / "run.json").read_text())
    about["versions"]["numpy"] = "1.0"
    (path / "run.json").write_text(json.dumps(about))
    with pytest.raises(RunDirectoryError, match=r"made with other versions \(numpy 1\.0 then, "):
        run_search(tiny(), path, points=6, jobs=1)


def test_a_foreign_directory_is_refused(tmp_path: Path, tiny: Tiny) -> None:
    """Catches a run that writes among somebody's files, were it only its lock."""
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(RunDirectoryError, match=r"holds thesis\.tex but no run\.json; it is not a run directory"):
        run_search(tiny(), tmp_path, points=1, jobs=1)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(RunDirectoryError, match="is a file"):
        run_search(tiny(), tmp_path / "thesis.tex", points=1, jobs=1)


@pytest.mark.parametrize("text", ["", "[1]", "null", '{"digest": "x"}', "\x00"])
def test_a_foreign_run_json_is_refused(text: str, tmp_path: Path, tiny: Tiny) -> None:
    """Catches a directory of another tool that happens to have a run.json."""
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(RunDirectoryError, match="not a description of a run"):
        run_search(tiny(), tmp_path, points=1, jobs=1)
    assert (tmp_path / "run.json").read_text() == text


def test_two_processes_at_once_are_refused(reference: Path, tmp_path: Path, tiny: Tiny, start: Start) -> None:
    """Catches two runs that write into one journal."""
    path = tmp_path / "out"
    shutil.copytree(reference, path)
    with (path / ".lock").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        before = everything(path)
        code, _, errors = start("run", SPEC, "-o", path, "--points", "6", *SETTINGS).finish()
        assert code == 2
        assert "another modelbuilder process is working in it" in errors
        assert everything(path) == before
    assert run_search(tiny(), path, points=6, jobs=1).resumed == 6


def test_something_that_is_no_run(tmp_path: Path) -> None:
    """Catches a folder without a run that ends in a traceback."""
    with pytest.raises(RunDirectoryError, match="not a run directory; `modelbuilder run SPEC"):
        load_run(tmp_path)


def test_progress_counts_every_point(tmp_path: Path, tiny: Tiny) -> None:
    """Catches a progress bar that does not start where the run was resumed, or does not reach its end."""
    calls: list[tuple[str, int, int]] = []
    run_search(tiny(), tmp_path / "out", points=2, jobs=1, progress=lambda *call: calls.append(call))
    assert [(done, total) for _, done, total in calls] == [(0, 2), (1, 2), (2, 2)]
    calls.clear()
    run_search(tiny(), tmp_path / "out", points=3, jobs=1, progress=lambda *call: calls.append(call))
    counts = [done for _, done, _ in calls]
    assert counts == sorted(counts)
    assert calls[-1][1:] == (3, 3)


def test_a_failed_point_is_named_and_empty(tmp_path: Path, tiny: Tiny) -> None:
    """Catches a failure that is a number, NaN, or the end of the run: no signal survives an impossible cut."""
    impossible = (
        "{quantity: mass(gamma gamma gamma) / sqrt_s, between: [0.05, 0.06], where: m_a > 5 GeV, source: assumption}"
    )
    search = tiny(f"selection.3={impossible}")
    summary = run_search(search, tmp_path / "out", points=4, jobs=1)
    _, rows = load_run(tmp_path / "out")
    failed = [row for row in rows if row["status"] != "ok"]
    assert {row["point"] for row in failed} == set(summary.failed)
    assert len(summary.failed) == 2
    assert {row["m_a_gev"] > 5.0 for row in failed} == {True}
    for row in failed:
        assert row["status"] == summary.failed[row["point"]] == "signal-outside"
        numbers = [v for k, v in row.items() if k.rsplit("_", 1)[0] in ("mu", "cross_section_fb") or "expected" in k]
        assert numbers
        assert set(numbers) == {None}
        assert row["local_significance"] is None
    assert [row["status"] for row in rows if row["m_a_gev"] < 5.0] == ["ok"] * 4
    text = (tmp_path / "out" / "limits.csv").read_text()
    assert "nan" not in text.lower()
    assert "inf" not in text.lower()
    assert not math.isnan(rows[0]["mu_expected"])
    about = json.loads((tmp_path / "out" / "run.json").read_text())
    assert about["rows"] == {"ok": 4, "failed": 4}
