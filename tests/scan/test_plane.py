"""Runs of a small search in the plane: limits against other methods, the same bits for any jobs, resumed ones too."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyhf
import pytest

from modelbuilder.errors import RunDirectoryError
from modelbuilder.histograms.plane import PlaneSimulation
from modelbuilder.inference.bayesian import bayesian_upper_limit
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.publish.figures import draw_limit_figures, draw_point_figures
from modelbuilder.publish.plane import cells_of, limit_map, slices_of
from modelbuilder.scan.plane_toys import DataOfWindows
from modelbuilder.scan.run import run_search
from modelbuilder.scan.shared_toys import data_names
from modelbuilder.scan.significance import scan_significance
from modelbuilder.scan.store import load_run
from modelbuilder.spec.grid import GridPoint
from modelbuilder.spec.load import LoadedSearch, load_search

Tree = dict[str, bytes]
SPEC = Path(__file__).parents[2] / "specs" / "belle2" / "dark_higgsstrahlung_2019.yaml"
SMALL = (
    "signal.events=5000",
    "signal.nodes.masses={m_Ap: [6 GeV, 6.5 GeV, 7 GeV, 7.5 GeV], m_hp: [1 GeV, 1.5 GeV, 2 GeV, 2.5 GeV]}",
    "grid.m_Ap.segments=[{from: 6.2 GeV, to: 7.4 GeV, step: 1.2 resolution, source: assumption}]",
    "grid.m_hp.segments=[{from: 1.1 GeV, to: 2.4 GeV, step: 1.2 resolution, source: assumption}]",
    "backgrounds.mu_mu_gamma.events=100000",
    "backgrounds.tau_tau.events=100000",
    "backgrounds.tau_pion.events=50000",
)


@pytest.fixture(scope="module")
def search() -> LoadedSearch:
    return load_search(SPEC, overrides=SMALL)


@pytest.fixture(scope="module")
def whole(search: LoadedSearch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the whole grid in one process."""
    path = tmp_path_factory.mktemp("plane") / "run"
    run_search(search, path, jobs=1)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    return numbers_of(path / "limits.csv")


def numbers_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_two_jobs_and_a_resumed_run_have_the_same_bits(
    search: LoadedSearch, whole: Path, tmp_path: Path, files_of: Callable[[Path], Tree]
) -> None:
    """Catches groups of points that know each other, and data that depend on what is missing."""
    assert len(search.points) > 200  # more than one group
    run_search(search, tmp_path / "two", jobs=2)
    run_search(search, tmp_path / "resumed", points=30, jobs=1)
    summary = run_search(search, tmp_path / "resumed", jobs=2)
    assert summary.resumed == 30
    expected = files_of(whole)
    assert files_of(tmp_path / "two") == expected
    assert files_of(tmp_path / "resumed") == expected


def test_a_killed_run_keeps_whole_groups(search: LoadedSearch, tmp_path: Path) -> None:
    """An interrupt after the first group: its points are in the table, and a second run makes the others only."""

    def stop(what: str, done: int, total: int) -> None:
        if what == "limits":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(search, tmp_path / "run", jobs=1, progress=stop)
    kept = len(rows_of(tmp_path / "run"))
    assert 0 < kept < len(search.points)
    summary = run_search(search, tmp_path / "run", jobs=1)
    assert (summary.resumed, summary.points) == (kept, len(search.points))


def test_limits_against_the_likelihood_and_pyhf(search: LoadedSearch, whole: Path) -> None:
    """Second method for some points: each workspace is plain pyhf, and its posterior gives the limit of the table."""
    rows = rows_of(whole)
    assert [row["point"] for row in rows] == [point.name for point in search.points]
    for row in rows[:: len(rows) // 6]:
        text = (whole / "workspaces" / f"{row['point']}.json").read_text(encoding="utf-8")
        model = pyhf.Workspace(json.loads(text)).model()
        assert model.config.poi_name == "mu"
        assert len(model.config.channels) == 1
        assert model.config.channel_nbins["plane"] == 1
        found = bayesian_upper_limit(CompiledLikelihood(json.loads(text)), confidence_level=0.9)
        assert float(row["mu_observed"]) == pytest.approx(found.observed, rel=1e-5)
        reference = float(row["reference_cross_section_fb"])
        assert float(row["cross_section_fb_observed"]) == pytest.approx(found.observed * reference, rel=1e-5)
        bands = [float(row[f"mu_{band}"]) for band in ("expected_m2", "expected", "expected_p2")]
        assert bands[0] <= bands[1] <= bands[2]


def test_limits_of_the_coupling(search: LoadedSearch, whole: Path) -> None:
    """Closed form: eps^2 alpha_D is the limit over the cross section for a coupling of 1, at both masses of the point."""
    row = rows_of(whole)[100]
    theory = search.spec.interpretations["eps2_alpha_d"].theory
    masses = (float(row["m_Ap_gev"]), float(row["m_hp_gev"]))
    unit = theory.rate(search.spec.experiment.beams.sqrt_s, masses, 1.0, {"decay": "muons+invisible"})
    assert float(row["eps2_alpha_d_observed"]) == pytest.approx(float(row["cross_section_fb_observed"]) / unit)


def test_the_lint_tells_of_the_closure(whole: Path) -> None:
    """Catches a closure that is worked out and never seen, or said of every point."""
    lines = [line for line in (whole / "lint.txt").read_text().splitlines() if line.endswith("[closure]")]
    assert len(lines) == 1
    assert "nodes as interpolated from those around them: the signal in their windows is off by" in lines[0]
    head = (whole / "templates" / "nodes.csv").read_text().splitlines()[4]
    assert head.startswith("m_Ap_gev,m_hp_gev,efficiency,inside")


def test_cells_tile_the_plane() -> None:
    """By hand: halfway between points, as far outwards as inwards at the ends, not below zero, and not into a gap."""
    masses = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 4.0], [2.0, 0.2], [2.0, 1.0]])
    cells = cells_of(masses, [[], [(2.0, 4.0)]])
    assert cells[:, 0].tolist() == [[0.5, 1.5]] * 3 + [[1.5, 2.5]] * 2
    assert cells[:3, 1].tolist() == [[0.5, 1.5], [1.5, 2.0], [4.0, 5.0]]
    assert cells[3:, 1].tolist() == [[0.0, 0.6], pytest.approx([0.6, 1.4])]


def test_maps_and_slices(search: LoadedSearch, whole: Path) -> None:
    """Catches values at another point than theirs, and a slice that leaves its value of the other mass."""
    _, rows = load_run(whole)
    found = limit_map(search, rows, "cross_section_fb", "bayesian")
    assert found.masses.tolist() == [list(point.masses) for point in search.points]
    assert found.observed.tolist() == [row["cross_section_fb_observed"] for row in rows]
    assert found.cells is not None
    assert ((found.cells[:, :, 0] < found.masses) & (found.masses < found.cells[:, :, 1])).all()
    assert limit_map(search, rows[:20], "cross_section_fb", "bayesian").cells is None
    by_point = {(row["m_Ap_gev"], row["m_hp_gev"]): row["cross_section_fb_observed"] for row in rows}
    for along in (0, 1):
        curves = slices_of(search, rows, "cross_section_fb", "bayesian", along)
        assert curves
        for value, curve in curves:
            assert (np.diff(curve.mass) > 0.0).all()
            near = [
                limit for masses, limit in by_point.items()
                if masses[along] in curve.mass and abs(masses[1 - along] - value) < (1e-9 if along else 0.1)
            ]  # fmt: skip
            assert set(curve.observed) <= set(near)


def test_figures(search: LoadedSearch, whole: Path) -> None:
    """Every figure is made, with the numbers of the rows; a spectrum of one number is refused, and so is a significance
    along a line. Catches a table of another point, quantity or method than its figure.
    """
    _, rows = load_run(whole)
    names = {path.name for path in draw_limit_figures(search, whole, rows)}
    for quantity in ("cross_section_fb", "eps2_alpha_d"):
        for what in ("map", "against_m_Ap", "against_m_hp"):
            assert {f"limit_{quantity}_bayesian_{what}.png", f"limit_{quantity}_bayesian_{what}.pdf"} <= names
    limits = {(row["m_Ap_gev"], row["m_hp_gev"]): row for row in rows_of(whole) if row["method"] == "bayesian"}
    for what in ("map", "against_m_Ap", "against_m_hp"):
        numbers = numbers_of(whole / "figures" / f"limit_cross_section_fb_bayesian_{what}.csv")
        assert len(numbers) == len(limits) if what == "map" else 8 <= len(numbers) < len(limits)
        for one in numbers:
            shared = one.keys() & next(iter(limits.values())).keys()
            assert {"cross_section_fb_observed", "cross_section_fb_expected"} <= shared
            if what == "against_m_Ap":  # the panel has the mass that was asked for, not that of each point
                near = [row for (first, _), row in limits.items() if float(first) == float(one["m_Ap_gev"])]
                assert any(
                    float(row["cross_section_fb_observed"]) == float(one["cross_section_fb_observed"]) for row in near
                )
                continue
            row = limits[one["m_Ap_gev"], one["m_hp_gev"]]
            assert all(
                float(one[name] or "nan") == pytest.approx(float(row[name] or "nan"), nan_ok=True) for name in shared
            )
    with pytest.raises(RunDirectoryError, match="one number each, without a spectrum"):
        draw_point_figures(search, whole, rows[0])


def test_windows_share_the_events_of_toys(search: LoadedSearch, whole: Path) -> None:
    """Reference: catches toys with other backgrounds or other errors of the simulation than the workspaces have, and such
    as are thrown anew for each window, and auxiliary measurements too: how much of their background two windows share is
    counted in the simulated events themselves.
    """
    n = 1000
    points = search.points
    data = DataOfWindows(search, whole, points, n_toys=n, seed=1)
    windows = numbers_of(whole / "templates" / "windows.csv")
    names = list(search.spec.backgrounds)
    expected = np.array([[float(row[f"{name}_events"]) for name in names] for row in windows])
    deviations = (data.windows.counts.mean(axis=0) - expected.sum(axis=1)) / np.sqrt(expected.sum(axis=1) / n)
    inner = deviations[[not is_outermost(search, point) for point in points]]
    assert np.abs(inner).max() < 5.0
    assert inner.std() == pytest.approx(1.0, abs=0.15)
    assert (data.windows.counts == np.round(data.windows.counts)).all()

    place = {point.name: index for index, point in enumerate(points)}
    first = points[int(np.argmax(expected[:, :-1].sum(axis=1)))]
    workspace = json.loads((whole / "workspaces" / f"{first.name}.json").read_text())
    samples = workspace["channels"][0]["samples"]
    errors = {s["name"]: m["data"][0] for s in samples for m in s["modifiers"] if m["type"] == "staterror"}
    relative = np.sqrt(sum(e**2 for e in errors.values())) / sum(s["data"][0] for s in samples if s["name"] in errors)
    columns = data.at(place[first.name])
    labels = data_names(data.likelihoods[place[first.name]])
    assert columns[:, labels.index("staterror_plane[0]")].std() == pytest.approx(relative, rel=5.0 / np.sqrt(2.0 * n))
    assert columns[:, labels.index("lumi")].std() == pytest.approx(0.01, rel=5.0 / np.sqrt(2.0 * n))

    simulation = PlaneSimulation(search)
    made = simulation.windows(points)
    ellipses = made.shapes.ellipses
    simulated = [
        simulation.background_events(name) for name in names if search.spec.backgrounds[name].shape != "stated"
    ]
    checked = 0
    for second in points:
        one, other = place[first.name], place[second.name]
        shared, squares = 0.0, np.zeros(3)  # in both, in one, in the other
        for events in simulated:
            mine, others = (ellipses.contain(index, events.x, events.y) for index in (one, other))
            shared += float(events.weights[mine & others].sum())
            squares += [np.square(events.weights[some]).sum() for some in (mine & others, mine, others)]
        total = np.sqrt(expected[one].sum() * expected[other].sum())
        if second == first or shared < 0.3 * total:
            continue
        found = np.corrcoef(data.windows.counts[:, one], data.windows.counts[:, other])[0, 1]
        # the stated background, a few per cent, is shared as well
        stated = min(expected[one, names.index("e_e_mu_mu")], expected[other, names.index("e_e_mu_mu")])
        assert shared / total - 5.0 / np.sqrt(n) < found < (shared + stated) / total + 5.0 / np.sqrt(n)
        found = np.corrcoef(data.windows.simulation[:, one], data.windows.simulation[:, other])[0, 1]
        assert found == pytest.approx(squares[0] / np.sqrt(squares[1] * squares[2]), abs=5.0 / np.sqrt(n))
        both = data_names(data.likelihoods[one]), data_names(data.likelihoods[other])
        for name in ("lumi", "background_yield"):
            one_of_both = [data.at(i)[:, labels.index(name)] for i, labels in zip((one, other), both, strict=True)]
            assert np.array_equal(*one_of_both)
        checked += 1
    assert checked >= 2


@pytest.mark.parametrize("shape", ["stated", "simulated"])
def test_toys_of_events_from_files(tmp_path: Path, shape: str) -> None:
    """Invariant: the auxiliary measurement of a window scatters as the likelihood says. Catches errors of the simulation of
    a background whose shape is stated, so that it has none in the likelihood; and events that are not scaled.
    """
    specs = tmp_path / "specs"
    shutil.copytree(SPEC.parents[1], specs)
    folder = specs / "babar"
    steps = ("1 GeV, to: 1.02 GeV", "3 GeV, to: 3.05 GeV")
    grid = [
        f"grid.{name}.segments=[{{from: {ends}, step: 1 resolution, source: assumption}}]"
        for name, ends in zip(("m_Ap", "m_hp"), steps, strict=True)
    ]
    base = load_search(folder / "dark_higgsstrahlung.yaml", overrides=grid)
    (channel,) = base.spec.channels
    rng = np.random.default_rng(6)
    columns = zip(base.spec.plane(channel).observables, "xy", strict=True)
    observables = ", ".join(f'"{text}": {{column: {column}, unit: GeV}}' for text, column in columns)
    lines = ["extends: dark_higgsstrahlung.yaml", "backgrounds:", "  combinatorial: null"]
    for name, number, kind, luminosity in (("few", 60000, "simulated", 516), ("many", 600000, shape, 5160)):
        x, y = rng.uniform(0.9, 1.2, number), rng.uniform(2.8, 3.4, number)
        pq.write_table(pa.table({"x": x, "y": y, "w": rng.uniform(0.2, 1.0, number)}), folder / f"{name}.parquet")
        source = f"parquet: {name}.parquet, observables: {{{observables}}}, weight: w, source: assumption"
        entry = f"{{{channel}: {{{source}, luminosity: {luminosity} fb^-1}}}}"
        lines.append(f"  {name}: {{title: {name}, shape: {kind}, rate: fixed, files: {entry}}}")
    lines += ["systematics:", *(f"  {name}: null" for name in base.spec.systematics)]
    (folder / "files.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    search = load_search(folder / "files.yaml", overrides=grid)
    run_search(search, tmp_path / "run", jobs=1)
    n = 2000
    data = DataOfWindows(search, tmp_path / "run", search.points, n_toys=n, seed=1)
    middle = len(search.points) // 2
    workspace = json.loads((tmp_path / "run" / "workspaces" / f"{search.points[middle].name}.json").read_text())
    samples = [sample for sample in workspace["channels"][0]["samples"] if sample["name"] != "signal"]
    with_errors = [
        (sample["data"][0], modifier["data"][0])
        for sample in samples
        for modifier in sample["modifiers"]
        if modifier["type"] == "staterror"
    ]
    assert len(with_errors) == (2 if shape == "simulated" else 1)
    relative = np.sqrt(sum(error**2 for _, error in with_errors)) / sum(nominal for nominal, _ in with_errors)
    assert data.windows.simulation[:, middle].std() == pytest.approx(relative, rel=5.0 / np.sqrt(2.0 * n))
    total = sum(sample["data"][0] for sample in samples)
    assert data.windows.counts[:, middle].mean() == pytest.approx(total, abs=5.0 * np.sqrt(total / n))


def test_a_run_of_another_simulation_is_refused(search: LoadedSearch, whole: Path, tmp_path: Path) -> None:
    """Catches toys that are thrown from other backgrounds than the likelihoods of the run were made of."""
    path = tmp_path / "run"
    shutil.copytree(whole, path)
    windows = path / "templates" / "windows.csv"
    lines = windows.read_text(encoding="utf-8").splitlines()
    place = lines[0].split(",").index("tau_pion_events")
    cells = lines[50].split(",")
    cells[place] = repr(float(cells[place]) + 0.5)
    windows.write_text("\n".join([*lines[:50], ",".join(cells), *lines[51:]]) + "\n", encoding="utf-8")
    with pytest.raises(
        RunDirectoryError, match=r"windows\.csv: tau_pion at m_Ap = .* the run was made by another version"
    ):
        scan_significance(path, n_toys=100, seed=1)


def is_outermost(search: LoadedSearch, point: GridPoint) -> bool:
    """Whether part of the window lies beyond all other points, where no events of a stated background are thrown."""
    rows: dict[float, list[float]] = {}
    for other in search.points:
        rows.setdefault(other.masses[0], []).append(other.masses[1])
    first, second = point.masses
    at = sorted(rows).index(first)
    row = sorted(rows[first])
    return not (2 <= at < len(rows) - 2 and row.index(second) in range(2, len(row) - 2))


def test_the_largest_excess_in_the_plane(whole: Path) -> None:
    """Closed form: catches a p-value of one window: many of them, that overlap, are more than one test and fewer than as
    many; threads change nothing.
    """
    found = scan_significance(whole, n_toys=300, seed=3)
    assert found == scan_significance(whole, n_toys=300, seed=3, n_threads=2)
    assert found.by_upcrossings is None
    assert found.by_toys.n_failed == 0
    p, value = found.by_toys.local_p_value, found.by_toys.global_p_value
    assert p < value.value < 1.0 - (1.0 - p) ** found.n_points
    assert found.as_dict()["masses_gev"] == found.point.values
    text = list(found.lines())
    assert text[0].startswith(f"largest of {found.n_points} points: m_Ap = ")
    assert not any("upcrossings" in line for line in text)


def test_a_cache_gives_the_same_bytes(
    search: LoadedSearch, whole: Path, tmp_path: Path, files_of: Callable[[Path], Tree]
) -> None:
    """Second method: a run without. Catches nodes or windows that are simulated again after a change that they do not
    know of, or are not after one that moves the windows.
    """
    cache = tmp_path / "kept"

    def kept() -> set[str]:
        return {path.name for path in cache.rglob("*.npz")}

    expected = {name: text for name, text in files_of(whole).items() if not name.startswith("figures/")}
    run_search(search, tmp_path / "first", jobs=1, cache=cache)
    assert files_of(tmp_path / "first") == expected
    before = kept()
    run_search(search, tmp_path / "again", jobs=1, cache=cache)
    assert files_of(tmp_path / "again") == expected
    assert kept() == before
    changed = load_search(SPEC, overrides=(*SMALL, "systematics.background_yield.size=20 %"))
    run_search(changed, tmp_path / "changed", jobs=1, cache=cache, limits=False)
    assert kept() == before
    wider = load_search(SPEC, overrides=(*SMALL, "channels.plane.window.ellipse=3 resolution"))
    run_search(wider, tmp_path / "wider", points=1, jobs=1, cache=cache, limits=False)
    assert len(kept() - before) == 4  # the nodes, and three backgrounds in their windows
