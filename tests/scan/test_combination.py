"""Runs of combinations: limits against those of searches alone, files, and everything that runs of searches can do."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.errors import RunDirectoryError
from modelbuilder.histograms.templates import from_uhi_json
from modelbuilder.publish import figures
from modelbuilder.scan.point import limit_rows
from modelbuilder.scan.points import points_of
from modelbuilder.scan.run import run_search
from modelbuilder.scan.significance import scan_significance
from modelbuilder.scan.store import load_run
from modelbuilder.scan.table import BANDS
from modelbuilder.spec.load import LoadedCombination, load_combination, load_search

from .conftest import Tree

G = "g_agammagamma_per_gev"
MASS = 3.0
EVENTS = "signal: {events: 20000}, backgrounds: {three_photon: {events: 400000}}"
HEAD = f"""schema: combination/1
name: both
title: two searches
parameter: {G}
statistics: {{methods: [cls, profile-likelihood], confidence_level: 95 %, source: assumption}}
"""
AT = "[{values: [%s], source: assumption}]"
ONE_MASS = AT % f"{MASS} GeV"
RATE = "{kind: rate, size: 20 %, on: [signal], source: assumption}"
NO_SYSTEMATICS = (
    "lumi: null, mass_resolution: null, photon_energy_scale: null, peaking_rate: null, background_shape: null"
)
Rows = list[dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our specs."""
    path = tmp_path_factory.mktemp("combinations") / "specs"
    shutil.copytree(Path(__file__).parents[2] / "specs", path)
    return path / "belle2"


@pytest.fixture(scope="module")
def combination(folder: Path) -> Callable[..., LoadedCombination]:
    """Loads a combination of variants of our search with few events: for each its name and its changes."""

    def load(data: str, grid: str, rest: str = "", **searches: str) -> LoadedCombination:
        members = "".join(
            f"  {name}: {{extends: alp_gammagamma_2018.yaml, {EVENTS}, {changes}}}\n"
            for name, changes in searches.items()
        )
        path = folder / "both.yaml"
        path.write_text(
            f"{HEAD}data: {data}\ngrid: {{m_a: {{segments: {grid}}}}}\nsearches:\n{members}{rest}", encoding="utf-8"
        )
        return load_combination(path)

    return load


def coupling(rows: Rows, band: str = "observed") -> list[float]:
    assert [row["status"] for row in rows] == ["ok"] * len(rows)
    return [row[f"{G}_{band}"] for row in rows]


def rows_at(loaded: Any, mass: float = MASS) -> Rows:
    """The rows of one grid point."""
    maker = points_of(loaded)
    point = min(loaded.points, key=lambda found: abs(found.mass - mass))
    return list(limit_rows(loaded.spec, maker.made(point, maker.shared([point]))))


# --------------------------------------------------------------------------------------------------------- likelihood


def test_a_combination_of_one_is_the_search(combination: Callable[..., LoadedCombination], folder: Path) -> None:
    """Invariant: catches another normalisation, window, template or data: same limits, to 1e-9, with pseudo-data too.

    The luminosity acts as any other rate in a combination, so it is written as one for the search alone.
    """
    grid = f"grid: {{m_a: {{segments: {AT % '2.9 GeV, 3 GeV, 3.1 GeV'}}}}}"
    found = combination("{kind: pseudo, seed: 5}", ONE_MASS, alone=grid)
    luminosity = "{kind: rate, size: 0.67 %, on: [signal, pi0, eta, eta_prime], source: assumption}"
    search = load_search(
        folder / "alp_gammagamma_2018.yaml",
        overrides=[
            "signal.events=20000",
            "backgrounds.three_photon.events=400000",
            "grid.m_a.segments=" + AT % "2.9 GeV, 3 GeV, 3.1 GeV",
            "statistics.methods=[cls, profile-likelihood]",
            "data.seed=5",
            f"systematics.lumi={luminosity}",
        ],
    )
    together, apart = rows_at(found), rows_at(search)
    for band in ("observed", *BANDS):
        assert coupling(together, band) == pytest.approx(coupling(apart, band), rel=1e-9)
    assert [row["cross_section_fb_observed"] for row in together] == pytest.approx(
        [row["cross_section_fb_observed"] for row in apart], rel=1e-9
    )
    assert together[0]["local_significance"] == pytest.approx(apart[0]["local_significance"], rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("kind", ["none", "shared", "separate"])
def test_two_equal_searches_are_one_with_twice_the_data(
    kind: str, combination: Callable[..., LoadedCombination]
) -> None:
    """Reference: catches a signal, a parameter or a constraint that is counted once or four times.

    Asimov data. With the same parameter in both the likelihood is that of twice the luminosity. With two parameters each
    constraint counts, as if the size, in its logarithm, were smaller by sqrt(2) (but for the interpolation below 1 sigma).
    """
    systematics = f"systematics: {{{NO_SYSTEMATICS}, selection_efficiency: {'null' if kind == 'none' else RATE}}}"
    own = f"{systematics}, grid: {{m_a: {{segments: {ONE_MASS}}}}}"
    rest = "separate: [selection_efficiency]\n" if kind == "separate" else ""
    two = combination("{kind: asimov}", ONE_MASS, rest, one=own, two=own)
    size = 1.2 ** math.sqrt(0.5) - 1.0 if kind == "separate" else 0.2
    own = own.replace("size: 20 %", f"size: {size!r}")
    doubled = combination(
        "{kind: asimov}", ONE_MASS, one=f"luminosity: {{value: 890 pb^-1, source: assumption}}, {own}"
    )
    tolerance = 1e-3 if kind == "separate" else 1e-7
    found, expected = rows_at(two), rows_at(doubled)
    for band in ("observed", "expected_m2", "expected", "expected_p2"):
        assert coupling(found, band) == pytest.approx(coupling(expected, band), rel=tolerance)
    if kind == "separate":  # the test would not see a shared parameter otherwise
        shared = rows_at(
            combination(
                "{kind: asimov}", ONE_MASS, one=own.replace(repr(size), "0.2"), two=own.replace(repr(size), "0.2")
            )
        )
        assert coupling(found)[0] < (1.0 - 10.0 * tolerance) * coupling(shared)[0]


def test_what_only_some_searches_say(combination: Callable[..., LoadedCombination]) -> None:
    """Catches a cross section of two processes or beams, and an interpretation that differs between the searches."""
    own = f"grid: {{m_a: {{segments: {ONE_MASS}}}}}"
    invisible = "interpretations: {%s: {model: alp-photon}, g_b_per_gev: {model: alp-photon-invisible, branching_fraction: %s, source: assumption}}"
    one, two = (f"{own}, {invisible % (G, fraction)}" for fraction in ("0.5", "0.25"))
    found = combination("{kind: asimov}", ONE_MASS, one=one, two=two)
    assert found.spec.has_one_rate
    (row, _) = rows_at(found)
    assert "g_b_per_gev_observed" not in row
    assert "g_b_per_gev follows from the signal strength in another way in each search" in row["warnings"]
    (row, _) = rows_at(combination("{kind: asimov}", ONE_MASS, one=one, two=one))
    assert row["g_b_per_gev_observed"] == pytest.approx(math.sqrt(2.0) * row[f"{G}_observed"], rel=1e-9)
    beams = "experiment: {beams: {electron_energy: 8.0 GeV, source: assumption}}"
    other = combination("{kind: asimov}", ONE_MASS, one=own, two=f"{own}, {beams}")
    assert not other.spec.has_one_rate
    (row, _) = rows_at(other)
    assert [name for name in row if name.startswith("cross_section")] == []


# --------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def both(combination: Callable[..., LoadedCombination]) -> LoadedCombination:
    """Two searches that overlap in two of four masses."""
    one = f"grid: {{m_a: {{segments: {AT % '0.5 GeV, 2 GeV, 2.02 GeV, 3 GeV'}}}}}"
    two = f"grid: {{m_a: {{segments: {AT % '2 GeV, 2.03 GeV, 8 GeV'}}}}}, luminosity: {{value: 2 fb^-1, source: assumption}}"
    grid = AT % "0.5 GeV, 2 GeV, 2.02 GeV, 8 GeV"
    return combination("{kind: pseudo, seed: 2018}", grid, "separate: [selection_efficiency]\n", one=one, two=two)


@pytest.fixture(scope="module")
def run(both: LoadedCombination, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "out"
    run_search(both, path, jobs=1)
    return path


def test_what_a_run_writes(run: Path, both: LoadedCombination) -> None:
    """Catches a file that is missing or doubled, and a table that has lost a column or says nothing of the searches."""
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    points = [point.name for point in both.points]
    assert len(points) == 4
    expected = {"run.json", "spec.resolved.yaml", "points.jsonl", "limits.csv", "limits.json", "lint.txt", ".lock"}
    expected |= {f"workspaces/{name}.json" for name in points} | {f"templates/{name}.json" for name in points}
    regions = ("one_diphoton", "two_diphoton", "two_recoil")
    assert names == expected | {f"templates/background_{region}.json" for region in regions}
    with (run / "limits.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["searches"] for row in rows[::2]] == ["one", "one two", "one two", "two"]
    assert {row["channel"] for row in rows} == {"all"}
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        ratio = (float(row[f"{G}_observed"]) / float(row[f"reference_{G}"])) ** 2
        assert ratio == pytest.approx(float(row["mu_observed"]), rel=1e-9)
    document = json.loads((run / "limits.json").read_text(encoding="utf-8"))
    units = {column["name"]: column["unit"] for column in document["columns"]}
    assert units[f"reference_{G}"] == "GeV^-1"
    assert document["digest"] == both.digest


def test_templates_are_those_of_the_search_alone(run: Path, both: LoadedCombination, tmp_path: Path) -> None:
    """Invariant: catches other seeds, windows or binning than alone, and data of the other search."""
    for name in both.searches:
        search = both.searches[name]
        run_search(search, tmp_path / name, jobs=1, limits=False)
        for point in both.points:
            if name not in both.searches_at(point) or point.name not in {own.name for own in search.points}:
                continue
            file = f"templates/{point.name}.json"
            together = from_uhi_json((run / file).read_text(encoding="utf-8"))
            alone = from_uhi_json((tmp_path / name / file).read_text(encoding="utf-8"))
            own = {
                sample.removeprefix(f"{name}/"): one
                for sample, one in together.items()
                if sample.startswith(f"{name}/")
            }
            assert own == alone


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_was_stopped_goes_on(
    jobs: int, run: Path, both: LoadedCombination, tmp_path: Path, files_of: Callable[[Path], Tree]
) -> None:
    """Invariant: catches anything that depends on the number of processes, or on which points were there before."""
    path = tmp_path / "out"
    assert run_search(both, path, points=2, jobs=jobs).resumed == 0
    assert run_search(both, path, jobs=jobs).resumed == 2
    found, expected = files_of(path), files_of(run)
    assert set(found) == set(expected)
    assert [name for name in found if found[name] != expected[name]] == []


def test_another_search_within_is_refused(run: Path, both: LoadedCombination, tmp_path: Path) -> None:
    """Catches results of two combinations in one table."""
    path = tmp_path / "out"
    shutil.copytree(run, path)
    other = load_combination(path / "spec.resolved.yaml", overrides=["searches.two.luminosity.value=3 fb^-1"])
    with pytest.raises(RunDirectoryError, match="holds a run of another spec"):
        run_search(other, path, jobs=1)


def test_figures(run: Path, both: LoadedCombination, tmp_path: Path) -> None:
    """Catches a search that is missing in the figures of a point, and a luminosity that is not that of all data."""
    loaded, rows = load_run(run)
    assert isinstance(loaded, LoadedCombination)
    path = tmp_path / "out"
    shutil.copytree(run, path)
    drawn = [found.stem for found in figures.draw_limit_figures(loaded, path, rows)[::3]]
    quantities = ("cross_section_fb", G)
    assert drawn == [
        f"limit_{quantity}_{method}" for quantity in quantities for method in ("cls", "profile-likelihood")
    ]
    row = next(row for row in rows if row["m_a_gev"] == 2.0)
    name = row["point"]
    drawn = [found.stem for found in figures.draw_point_figures(loaded, path, row)[::3]]
    assert drawn == [f"{kind}_{name}_{search}" for search in ("one", "two") for kind in ("templates", "postfit")] + [
        f"pulls_{name}"
    ]
    spectrum = figures.prefit_spectrum(loaded.searches["two"], run, row, "two")
    signal = json.loads((run / "workspaces" / f"{name}.json").read_text(encoding="utf-8"))["channels"][1]["samples"][0]
    assert spectrum.signal is not None
    assert spectrum.signal.tolist() == pytest.approx([row["mu_expected"] * value for value in signal["data"]])


def test_global_significance(run: Path) -> None:
    """Reference: catches toys that the points do not share: three independent tests and one that is nearly a copy."""
    found = scan_significance(run, n_toys=2000, seed=3)
    assert (found.n_points, found.by_toys.n_failed) == (4, 0)
    p, value = found.by_toys.local_p_value, found.by_toys.global_p_value
    error = 3.0 * (value.upper - value.lower)
    assert 1.0 - (1.0 - p) ** 2 - error < value.value < 1.0 - (1.0 - p) ** 4 + error
