"""Tests of specs, lock files, plans and the pytest plugin, each on a change of one value."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelbuilder.errors import SpecError, UserError
from modelbuilder.regression.check import check_search
from modelbuilder.regression.diff import diff
from modelbuilder.regression.lock import lock_changes, lock_path, make_lock, read_lock, write_lock
from modelbuilder.regression.plan import make_plan
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import load_search


def changed(path: Path, before: str, after: str) -> None:
    """Edit a spec in place."""
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def test_tests_look_at_what_a_run_finds(small: Path, tmp_path: Path) -> None:
    """Second method: catches values of another point, sample or column than the test names: the same numbers from the
    files of a full run.
    """
    changed(small, "above: 0}", "equals: 1e9, within: 1 %}")
    yields, limits = check_search(load_search(small), jobs=1)
    assert yields.passed
    assert not limits.passed
    run = tmp_path / "run"
    run_search(load_search(small), run, jobs=1)
    rows = {row["point"]: row for row in load_run(run)[1]}
    assert limits.values == tuple(rows[name]["cross_section_fb_expected"] for name in ("m_a_1p0000", "m_a_3p0000"))
    assert yields.values == (pytest.approx(rows["m_a_2p0000"]["background_events"], rel=1e-12),)
    assert limits.line.startswith("expected(cross_section_fb) at m_a_1p0000 ... m_a_3p0000, cls: ")
    assert "; expected 1e+09 within 1 % (-100 %, -100 %)" in limits.line


def test_forms_of_an_expectation(small: Path) -> None:
    """Catches a form that always passes: each is right once and wrong once, on the efficiency at three masses."""
    head = "{quantity: efficiency(signal), at: {m_a: [1 GeV, 2 GeV, 3 GeV]}"
    forms = ["between: [0.05, 0.5]", "above: 0.05", "below: 0.5", "monotonic: rising"]
    wrong = ["between: [0.5, 0.6]", "above: 0.5", "below: 0.05", "monotonic: falling"]
    text = small.read_text().split("tests:")[0]
    small.write_text(text + "tests:\n" + "".join(f"  - {head}, {form}}}\n" for form in forms + wrong))
    found = check_search(load_search(small), jobs=1)
    values = found[0].values
    passed = [one.passed for one in found]
    assert passed[:3] == [True] * 3
    assert passed[4:7] == [False] * 3
    assert [passed[3], passed[7]] == [sorted(values) == list(values), sorted(values, reverse=True) == list(values)]


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            "quantity: efficency(signal), at: {m_a: 1 GeV}, above: 0",
            "found 'efficency(signal)'; a test looks at one of",
        ),
        ("quantity: significance, at: {m_a: 1 GeV}", "found none; a test has one of equals, between"),
        ("quantity: significance, at: {m_a: 1 GeV}, equals: 0", "missing; with `equals` say within what"),
        ("quantity: significance, at: {m_a: 1}, above: 0", "found 1 without a unit; expected an energy"),
        ("quantity: significance, at: {m_a: 1 GeV}, above: 3 fb", "write the number in the unit that the name"),
        ("quantity: significance, at: {m_a: 1 GeV}, monotonic: rising", "found one point; monotonic needs several"),
        ("quantity: significance, at: {m_a: 1 GeV}, between: [2, 1]", "write [low, high]"),
    ],
)
def test_refusals(small: Path, test: str, message: str) -> None:
    """Reads the message of each fault, with its line."""
    small.write_text(small.read_text().split("tests:")[0] + f"tests:\n  - {{{test}}}\n")
    with pytest.raises(SpecError) as caught:
        load_search(small)
    assert message in str(caught.value)
    assert f"small.yaml:{len(small.read_text().splitlines())}" in str(caught.value)


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (
            "quantity: yield(combinatoric), at: {m_a: 1 GeV}, above: 0",
            "no such background; did you mean 'combinatorial'?",
        ),
        ("quantity: expected(cross_section), at: {m_a: 1 GeV}, above: 0", "did you mean 'cross_section_fb'?"),
        ("quantity: significance, at: {m_b: 1 GeV}, above: 0", "found 'm_b', which is not on the grid"),
        (
            "quantity: significance, at: {m_a: 1 GeV}, above: 0, method: bayesian",
            "bayesian is not a method of the spec",
        ),
    ],
)
def test_tests_of_what_is_not_there(small: Path, test: str, message: str) -> None:
    """Reads the message of each name that is known only when the search is."""
    small.write_text(small.read_text().split("tests:")[0] + f"tests:\n  - {{{test}}}\n")
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        check_search(load_search(small), jobs=1)


def test_lock_file_tells_one_change_and_nothing_else(small: Path) -> None:
    """Catches a lock file that differs from itself, and a change that is hidden or drags others along: the size of one
    systematic moves, with it the expected limits, and no yield.
    """
    search = load_search(small)
    points = ["m_a_1p0000", "m_a_2p0000"]
    lock = make_lock(search, spec=small, points=points, jobs=1)
    write_lock(lock_path(small), lock)
    assert read_lock(lock_path(small)) == json.loads(json.dumps(lock))
    assert set(lock["inputs"]) == {"specs/small.yaml", "specs/belle2.yaml"}
    assert list(lock_changes(lock, make_lock(load_search(small), spec=small, points=points, jobs=1))) == []

    changed(small, "size: 10 %", "size: 11 %")
    found = list(lock_changes(lock, make_lock(load_search(small), spec=small, points=points, jobs=1)))
    assert [change.line() for change in found if change.kind != "limit"] == [
        "systematics.efficiency.size: 10 % -> 11 % (+10 %)"
    ]
    limits = [change.what for change in found if change.kind == "limit"]
    assert "cross_section_fb_expected, cls" in limits
    assert all("efficiency" not in what and "background" not in what for what in limits)


def test_plan_says_what_a_change_would_do(small: Path, tmp_path: Path) -> None:
    """Catches a plan that simulates for the sake of a rate, or does not for that of a cut; and one that misses points."""
    run = tmp_path / "run"
    run_search(load_search(small), run, points=2, jobs=1)
    fresh = make_plan(load_search(small), run)
    assert (fresh.changes, fresh.unfinished, fresh.nothing_to_do) == ((), ("m_a_2p0000",), False)
    run_search(load_search(small), run, jobs=1)
    assert make_plan(load_search(small), run).nothing_to_do

    def stages(*overrides: str) -> list[str]:
        return list(make_plan(load_search(small, overrides=overrides), run).stages)

    assert stages("systematics.efficiency.size=11 %") == ["workspaces", "limits"]
    assert stages("statistics.confidence_level=95 %") == ["limits"]
    assert stages("title=another") == []
    assert stages("signal.events=3000") == ["simulation of the signal", "workspaces", "limits"]
    assert "simulation of backgrounds" in stages("selection[0].above=5.28 GeV")
    more = make_plan(
        load_search(small, overrides=["grid.m_a.segments=[{values: [1 GeV, 4 GeV], source: assumption}]"]), run
    )
    assert (more.new, more.gone) == (("m_a_4p0000",), ("m_a_2p0000", "m_a_3p0000"))


def test_diff_of_runs_tells_one_change(small: Path, tmp_path: Path) -> None:
    """Catches yields or data that change with the size of an uncertainty, and a change that is not found in the
    workspaces of all points.
    """
    one, two = tmp_path / "one", tmp_path / "two"
    run_search(load_search(small), one, jobs=1)
    changed(small, "size: 10 %", "size: 11 %")
    run_search(load_search(small), two, jobs=1)
    found = diff(one, two)
    assert {change.kind for change in found.changes} == {"spec", "uncertainty", "limit"}
    uncertainties = [change for change in found.changes if change.kind == "uncertainty"]
    assert [(change.what, change.points) for change in uncertainties] == [
        ("efficiency on diphoton/signal, up", 3),
        ("efficiency on diphoton/signal, down", 3),
    ]
    assert diff(one, one).changes == ()


def pytest_in(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run pytest on the specs of a folder, with the plugin of this package."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "modelbuilder.regression.plugin", "-p", "no:cacheprovider"]
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [*command, *options, "specs"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        env=environment,
    )


def test_pytest_runs_specs(small: Path, tmp_path: Path) -> None:
    """The whole way: tests and a lock file are items, failures are in the words of the physics, locks can be renewed."""
    found = pytest_in(tmp_path)
    assert (found.returncode, found.stdout.splitlines()[-1].split(" in ")[0]) == (0, "2 passed"), found.stdout
    found = pytest_in(tmp_path, "--update-locks")
    assert "3 passed" in found.stdout, found.stdout
    assert "3 passed" in pytest_in(tmp_path).stdout
    changed(small, "size: 10 %", "size: 11 %")
    found = pytest_in(tmp_path)
    assert found.returncode == 1
    assert "1 failed, 2 passed" in found.stdout
    assert "systematics.efficiency.size: 10 % -> 11 % (+10 %)" in found.stdout
    assert "Traceback" not in found.stdout
    changed(small, "events: [20, 40, 10]", "events: [20, 80, 10]")
    found = pytest_in(tmp_path)
    assert "MOVED  yield(combinatorial) at m_a_2p0000: " in found.stdout
    assert "the table was read wrongly" in found.stdout
    assert "1 failed, 2 passed" in pytest_in(tmp_path, "--update-locks").stdout, "the test of the yield still fails"


def test_slow_specs_wait_for_full(small: Path, tmp_path: Path) -> None:
    """Catches tests of slow specs that run anyway, and ones that nobody can run."""
    changed(small, "events: 2000", "events: 1100000")
    found = pytest_in(tmp_path)
    assert "2 skipped" in found.stdout, found.stdout
    assert "simulates 3,300,000 events; --full runs it" in pytest_in(tmp_path, "-rs").stdout
