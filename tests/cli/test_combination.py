"""The commands on a combination: the same as on a search, or one clear refusal."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Result

Cli = Callable[..., Result]
PATH = Path("specs/belle2/both.yaml")
TEXT = """schema: combination/1
name: both
title: two searches
searches:
  one: {extends: alp_gammagamma_2018.yaml, signal: {events: 5000}, backgrounds: {three_photon: {events: 50000}}}
  two:
    extends: alp_gammagamma_2018.yaml
    signal: {events: 5000}
    backgrounds: {three_photon: {events: 50000}}
    luminosity: {value: 2 fb^-1, source: assumption}
    seed: 2
parameter: g_agammagamma_per_gev
grid: {m_a: {segments: [{values: [2 GeV, 3 GeV], source: assumption}]}}
statistics: {methods: [cls], confidence_level: 95 %, source: assumption}
data: {kind: pseudo, seed: 1}
"""


@pytest.fixture
def combination(specs: Path) -> Path:
    """Beside a copy of our searches."""
    PATH.write_text(TEXT, encoding="utf-8")
    return PATH


def test_what_was_understood(cli: Cli, combination: Path) -> None:
    """Catches a combination that only some of the commands know."""
    found = cli("validate", combination)
    assert (found.code, found.errors) == (0, "")
    assert found.output.startswith(f"{PATH}: fine: 2 grid points, searches one, two, inputs: ")
    assert "shared       selection_efficiency: one, two\n" in cli("show", combination).output
    grid = cli("show", combination, "--grid", "--set", "searches.two.grid.m_a.segments.0.from=2.5 GeV").output
    assert [line.split()[1:] for line in grid.splitlines()] == [
        ["m_a_2p0000", "2.0000", "GeV", "one", "diphoton"],
        ["m_a_3p0000", "3.0000", "GeV", "one", "diphoton,", "two", "diphoton"],
    ]
    origin = cli("show", combination, "--origin").output
    assert "value: 2 fb^-1  # specs/belle2/both.yaml:10" in origin
    assert "value: 445 pb^-1  # specs/belle2/alp_gammagamma_2018.yaml:" in origin


def test_what_makes_no_sense(cli: Cli, combination: Path) -> None:
    """Catches a look at a sample of nobody knows which search."""
    found = cli("simulate", combination)
    assert (found.code, found.output) == (2, "")
    assert found.errors == (
        f"error: {PATH}: is a combination; look at one of its searches, one, two, in a file of its own\n"
    )


def test_from_the_file_to_the_limits(cli: Cli, combination: Path) -> None:
    """Catches a command that fails on the run of a combination, or that does not find its points."""
    found = cli("run", combination, "-o", "out", "--jobs", "1", "--seed", "4", "--cl", "0.9")
    assert found.code == 0, found.errors
    assert found.output.startswith("two searches (Belle II)\n2 points, 0 failed; data: pseudo:4 (simulated)\n")
    with Path("out/limits.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["searches"] for row in rows] == ["one two"] * 2
    assert {row["confidence_level"] for row in rows} == {"0.9"}
    limits = cli("limit", "out", "--json").document
    assert [item["patch"] for item in limits] == [row["point"] for row in rows]
    assert limits[0]["observed"] == pytest.approx(float(rows[0]["mu_observed"]), rel=1e-6)
    fit = cli("fit", "out", "--patch", rows[1]["point"], "--json").document
    names = {parameter["name"] for parameter in fit[0]["parameters"]}
    assert {"mu", "lumi_belle2", "one_background_shape", "two_three_photon_bernstein_0"} <= names
    drawn = cli("plot", "out", "--point", "3").output.splitlines()
    assert "out/figures/postfit_m_a_3p0000_two.png" in drawn
    assert cli("significance", "out", "--toys", "100", "--json").document["points"] == 2
    published = cli("publish", "out", "-o", "bundle")
    assert published.code == 0, published.errors
    assert cli("unpack", "bundle/submission.tar.gz", "-o", "elsewhere").code == 0
    found = {item["patch"]: item["observed"] for item in cli("limit", "elsewhere", "--json").document}
    assert found == pytest.approx({item["patch"]: item["observed"] for item in limits}, rel=1e-6)
    likelihoods = Path("bundle/likelihoods/index.csv").read_text(encoding="utf-8").splitlines()
    assert likelihoods[0] == "patch,m_a_gev,folder,reference_g_agammagamma_per_gev"
    again = cli("run", combination, "-o", "out", "--jobs", "1")
    assert again.code == 2
    assert "holds a run of another spec (both, digest " in again.errors
