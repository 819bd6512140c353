"""Data and backgrounds from files: what is filled, scaled and merged, against numpy, and against other ways to say it."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hist
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyhf
import pytest
import uhi.io.json
import uproot
from scipy.stats import norm

from modelbuilder.errors import RunDirectoryError, SpecError, UserError
from modelbuilder.histograms.plane import PlaneSimulation
from modelbuilder.histograms.simulate import RegionTemplates, Simulation
from modelbuilder.scan.points import check_files, edges_csv, points_of
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.spec.inputs import TOLERANCE, equal_bins_that_fit, merged_bins
from modelbuilder.spec.load import load_combination, load_search

Write = Callable[..., Path]
FloatArray = np.ndarray[Any, np.dtype[np.float64]]
EDGES = np.linspace(0.0, 3.0, 31)
N_EVENTS = 4000


@pytest.fixture(scope="module")
def masses() -> FloatArray:
    """GeV; some lie beyond the range of the channel."""
    return np.random.default_rng(1).triangular(-0.2, 1.0, 3.3, N_EVENTS)


@pytest.fixture(scope="module")
def counts(masses: FloatArray) -> FloatArray:
    return np.histogram(masses[masses < 3.0], EDGES)[0].astype(float)


def templates(path: Path) -> RegionTemplates:
    simulation = Simulation(load_search(path))
    (region,) = simulation.regions.values()
    return simulation.background(region)


def write_all(folder: Path, masses: FloatArray, counts: FloatArray) -> dict[str, str]:
    """The same data in every format, some in MeV: what the spec says of each."""
    rows = list(zip(EDGES[:-1].tolist(), EDGES[1:].tolist(), counts.tolist(), strict=True))
    lines = "".join(f"{1e3 * low!r}, {1e3 * high!r}, {n:.0f}\n" for low, high, n in reversed(rows))
    (folder / "d.csv").write_text(f"# data\nlow, high, n\n{lines}", encoding="utf-8")
    lines = "".join(f"{0.5 * (low + high):.4g}, {n:.0f}\n" for low, high, n in rows)
    (folder / "points.csv").write_text(f"m, n\n{lines}", encoding="utf-8")
    flowing = hist.Hist(hist.axis.Regular(30, 0.0, 3.0, name="m"), storage=hist.storage.Int64()).fill(masses)
    flowing.axes[0].units = "GeV"
    document = json.dumps({"folder/h": flowing}, default=uhi.io.json.default)
    (folder / "d.json").write_text(document, encoding="utf-8")
    with uproot.recreate(folder / "d.root") as file:
        file["folder/h"] = (counts, 1e3 * EDGES)
        file.mktree("t", {"m": "float64"}).extend({"m": masses})
        file["n"] = {"m": masses}
    pq.write_table(pa.table({"m": 1e3 * masses, "label": ["x"] * N_EVENTS}), folder / "d.parquet")
    head = "dependent_variables:\n- header: {name: Data}\n  values:\n"
    bins = head + "".join(f"  - {{value: {n:.0f}}}\n" for _, _, n in rows)
    bins += "- header: {name: Fit}\n  values:\n" + "  - {value: 1.5}\n" * 30
    bins += "independent_variables:\n- header: {name: M, units: GEV}\n  values:\n"
    bins += "".join(f"  - {{low: {low:.4g}, high: {high:.4g}}}\n" for low, high, _ in rows)
    (folder / "d.yaml").write_text(bins, encoding="utf-8")
    where = "observables: {mass(gamma gamma): {column: m, unit: %s}}, source: assumption}"
    return {
        "csv": "{csv: d.csv, columns: {low: low, high: high, events: n}, units: {low: MeV, high: MeV, events: ''}, source: assumption}",
        "points": "{csv: points.csv, columns: {at: m, events: n}, units: {at: GeV, events: ''}, source: assumption}",
        "uhi": "{uhi: d.json, histogram: folder/h, unit: GeV, source: assumption}",
        "root": "{root: d.root, histogram: folder/h, unit: MeV, source: assumption}",
        "hepdata": "{hepdata: d.yaml, columns: {events: Data}, source: assumption}",
        "parquet": "{parquet: d.parquet, " + where % "MeV",
        "ttree": "{root: d.root, tree: t, " + where % "GeV",
        "rntuple": "{root: d.root, tree: n, " + where % "GeV",
    }


@pytest.mark.parametrize("kind", ["csv", "points", "uhi", "root", "hepdata", "parquet", "ttree", "rntuple"])
def test_every_format_holds_the_same_data(
    kind: str, from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Reference: numpy.histogram. Catches a unit that is lost, flow bins that are counted, rows taken in their order, and
    a column for another."""
    found = templates(from_files(write_all(tmp_path / "specs", masses, counts)[kind]))
    assert found.observation.tolist() == counts.tolist()


def test_errors_and_luminosity_of_a_background(from_files: Write, tmp_path: Path, masses: FloatArray) -> None:
    """By hand: at a quarter of the luminosity of the file, times an efficiency, and errors that shrink with it.

    Second method: the same weighted events, histogrammed by hist and written by uproot, and filled here. Catches variances
    that are scaled once, and weights that are not squared.
    """
    weights = np.random.default_rng(2).uniform(0.2, 1.8, N_EVENTS)
    weighted = hist.Hist(hist.axis.Regular(60, 0.0, 3.0), storage=hist.storage.Weight()).fill(masses, weight=weights)
    with uproot.recreate(tmp_path / "specs" / "b.root") as file:
        file["h"] = weighted
        file.mktree("t", {"m": "float64", "w": "float64"}).extend({"m": masses, "w": weights})
    rest = "luminosity: 1.6 ab^-1, source: assumption}"
    histogram = "{root: b.root, histogram: h, unit: GeV, " + rest
    events = "{root: b.root, tree: t, weight: w, observables: {mass(gamma gamma): {column: m, unit: GeV}}, " + rest
    one, two = (
        templates(from_files(background=text)).backgrounds["combinatorial"].nominal for text in (histogram, events)
    )
    expected = 0.25 * weighted.values().reshape(30, 2).sum(axis=1)
    assert one.values == pytest.approx(expected)
    assert one.variances == pytest.approx(0.25**2 * weighted.variances().reshape(30, 2).sum(axis=1))
    assert two.values == pytest.approx(one.values)
    assert two.variances == pytest.approx(one.variances)
    exact = templates(from_files(background=histogram, shape="stated")).backgrounds["combinatorial"].nominal
    assert exact.values == pytest.approx(expected)
    assert not exact.variances.any()
    halved = from_files(background=histogram)
    halved.write_text(
        halved.read_text().replace("shape: sim", "efficiency: {value: 0.5, source: assumption}\n    shape: sim")
    )
    assert templates(halved).backgrounds["combinatorial"].nominal.values == pytest.approx(0.5 * expected)


def test_two_observables(from_files: Write, tmp_path: Path) -> None:
    """Reference: numpy.histogram2d. Catches axes that are exchanged, and a second one that does not run fastest."""
    rng = np.random.default_rng(3)
    x, theta = rng.uniform(0.0, 3.0, 3000), np.rad2deg(rng.triangular(0.0, 1.0, np.pi, 3000))
    pq.write_table(pa.table({"m": x, "theta": theta}), tmp_path / "specs" / "d.parquet")
    axes = [hist.axis.Regular(60, 0.0, 3.0), hist.axis.Regular(6, 0.0, 180.0)]
    with uproot.recreate(tmp_path / "specs" / "d.root") as file:
        file["h"] = hist.Hist(*axes, storage=hist.storage.Double()).fill(x, theta)
    channel = (
        "{observable: mass(gamma gamma), range: [0 GeV, 3 GeV], bins: 30, source: assumption,"
        ' second: {observable: "theta(K+)", range: [0 deg, 180 deg], bins: 3}}'
    )
    background = "{root: d.root, histogram: h, unit: [GeV, deg], luminosity: 400 fb^-1, source: assumption}"
    data = (
        "{parquet: d.parquet, source: assumption, observables:"
        " {mass(gamma gamma): {column: m, unit: GeV}, theta(K+): {column: theta, unit: deg}}}"
    )
    found = templates(from_files(data, background, channel=channel))
    expected = np.histogram2d(x, theta, [EDGES, np.linspace(0.0, 180.0, 4)])[0].ravel()
    assert found.observation.tolist() == expected.tolist()
    assert found.backgrounds["combinatorial"].nominal.values == pytest.approx(expected)


def test_cuts_on_events(from_files: Write, tmp_path: Path) -> None:
    """Reference: masks in numpy. Catches a cut that is made on the wrong column or in the wrong unit, one of several
    photons where two must pass, cuts of another region, and a trigger that acts on data twice."""
    rng = np.random.default_rng(4)
    m, mbc, e1, e2, pt = rng.uniform((0.0, 5.2, 0.0, 0.0, 0.0), (3.0, 5.29, 2.0, 2.0, 2.0), (5000, 5)).T
    columns = {"m": m, "mbc": mbc, "e1": 1e3 * e1, "e2": 1e3 * e2, "pt": pt}
    pq.write_table(pa.table(columns), tmp_path / "specs" / "d.parquet")
    selection = (
        "[{quantity: mbc(B+), above: 5.27 GeV, where: m_a < 1.5 GeV, source: assumption},"
        " {quantity: energy(gamma), above: 0.5 GeV, source: assumption},"
        " {quantity: energy(gamma), above: 1.5 GeV, at_least: 1, source: assumption},"
        " {quantity: pt(K+), turn_on: {threshold: 1 GeV, width: 100 MeV}, source: assumption}]"
    )
    entry = (
        "parquet: d.parquet, cuts: selection, source: assumption, observables: {mass(gamma gamma): {column: m, unit: GeV},"
        " mbc(B+): {column: mbc, unit: GeV}, energy( gamma ): {column: [e1, e2], unit: MeV}, pt(K+): {column: pt, unit: GeV}}"
    )
    path = from_files(f"{{{entry}}}", f"{{{entry}, luminosity: 400 fb^-1}}", selection=selection)
    simulation = Simulation(load_search(path))
    both = (e1 >= 0.5) & (e2 >= 0.5) & ((e1 >= 1.5) | (e2 >= 1.5))
    expected = {"diphoton_1": both & (mbc >= 5.27), "diphoton_2": both}
    assert simulation.regions.keys() == expected.keys()
    efficiency = norm.cdf(pt, 1.0, 0.1)
    for name, mask in expected.items():
        found = simulation.background(simulation.regions[name])
        assert found.observation.tolist() == np.histogram(m[mask], EDGES)[0].tolist()
        values = np.histogram(m[mask], EDGES, weights=efficiency[mask])[0]
        assert found.backgrounds["combinatorial"].nominal.values == pytest.approx(values)


def test_a_workspace_of_a_file_is_that_of_the_numbers(
    from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Second method: the numbers in the spec. Catches anything that depends on where they come from."""
    known = write_all(tmp_path / "specs", masses, counts)
    cells = f"low: {[f'{x!r} GeV' for x in EDGES[:-1].tolist()]}, high: {[f'{x!r} GeV' for x in EDGES[1:].tolist()]}"
    table = f"{{table: {{{cells}, events: {counts.tolist()}}}, source: assumption"
    rest = ", luminosity: 200 fb^-1}"
    made = []
    for data, background in (
        (known["parquet"], known["root"].removesuffix("}") + rest),
        (table + "}", table + rest),
    ):
        search = load_search(from_files(data, background))
        points = points_of(search)
        shared = points.shared(list(search.points))
        made.append([points.made(point, shared).workspace for point in search.points])
    assert made[0] == made[1]
    (channel,) = made[0][0]["channels"]
    sample = next(sample for sample in channel["samples"] if sample["name"] == "combinatorial")
    assert sample["data"] == pytest.approx(2.0 * counts)
    errors = {modifier["type"]: modifier["data"] for modifier in sample["modifiers"]}
    assert errors["staterror"] == pytest.approx(2.0 * np.sqrt(counts))
    assert "lumi" in errors


def test_limits_of_observed_data_are_those_of_pyhf(
    from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Reference: CLs of pyhf on the workspaces of the run. Catches data that do not reach the fit."""
    known = write_all(tmp_path / "specs", masses, counts)
    background = known["root"].removesuffix("}") + ", luminosity: 200 fb^-1}"
    search = load_search(from_files(known["csv"], background, shape="stated"))
    run_search(search, tmp_path / "out", jobs=1)
    _, rows = load_run(tmp_path / "out")
    assert [row["data"] for row in rows] == ["observed", "observed"]
    for row in rows:
        workspace = pyhf.Workspace(json.loads((tmp_path / "out" / "workspaces" / f"{row['point']}.json").read_text()))
        assert workspace.data(workspace.model(), include_auxdata=False) == counts.tolist()
        model = workspace.model()
        found = pyhf.infer.hypotest(row["mu_observed"], workspace.data(model), model, test_stat="qtilde")
        assert float(found) == pytest.approx(0.1, abs=2e-4)


def test_edges_that_coincide_can_be_merged() -> None:
    """By hand. Catches rounded edges of a publication that are refused, and bins that are split."""
    have = np.array([0.0, 0.3333, 0.6667, 1.0, 1.5, 2.0])
    assert merged_bins(have, np.array([1.0 / 3.0, 1.0, 2.0]), "GeV").tolist() == [1, 3, 5]
    shifted = np.array([0.3333 + 0.9 * TOLERANCE * 0.3333, 1.0])
    assert merged_bins(have, shifted, "GeV").tolist() == [1, 3]
    with pytest.raises(ValueError, match=r"a bin edge at 1.25 GeV, within the bin from 1 to 1.5 GeV of the histogram"):
        merged_bins(have, np.array([0.0, 1.25, 2.0]), "GeV")
    with pytest.raises(ValueError, match=r"goes from 0 to 2 GeV, the bins of the channel from 0 to 3 GeV"):
        merged_bins(have, np.array([0.0, 3.0]), "GeV")
    assert equal_bins_that_fit(np.linspace(0.0, 3.0, 13), 0.0, 3.0, 30) == [12, 6, 4]


def test_the_remedy_for_bins_that_do_not_fit(from_files: Write, tmp_path: Path) -> None:
    """Catches a remedy that does not help, and a run directory that was begun before the refusal."""
    lines = "".join(f"{0.25 * bin_},{0.25 * (bin_ + 1)},{bin_}\n" for bin_ in range(12))
    (tmp_path / "specs" / "d.csv").write_text(f"low,high,n\n{lines}", encoding="utf-8")
    data = "{csv: d.csv, columns: {low: low, high: high, events: n}, units: {low: GeV, high: GeV, events: ''}, source: assumption}"
    background = "{csv: d.csv, columns: {low: low, high: high, events: n}, units: {low: GeV, high: GeV, events: ''}, luminosity: 1 fb^-1, source: assumption}"
    path = from_files(data, background)
    with pytest.raises(SpecError) as error:
        run_search(load_search(path), tmp_path / "out", jobs=1)
    assert not (tmp_path / "out").exists()
    first, second = error.value.problems
    assert (first.line, first.path, second.path) == (
        20,
        "backgrounds.combinatorial.files.diphoton",
        "data.files.diphoton",
    )
    assert second.message == (
        "the channel has a bin edge at 0.1 GeV, within the bin from 0 to 0.25 GeV of the histogram; its bins can be merged,"
        " not split; with this range, `bins: 12` or `bins: 6` or `bins: 4` would fit"
    )
    search = load_search(path, overrides=["channels.diphoton.bins=6"])
    check_files(search)
    simulation = Simulation(search)
    assert simulation.observed(simulation.regions["diphoton"]).tolist() == [1.0, 5.0, 9.0, 13.0, 17.0, 21.0]


def test_windows_of_a_published_binning(
    from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """By hand: windows of three resolutions of 0.2 GeV around 1 GeV reach from 0.7 to 1.3 GeV, in bins of 0.1 GeV.

    Catches windows that are slices of another binning than that of the data, and `show --edges` that prints another.
    """
    known = write_all(tmp_path / "specs", masses, counts)
    channel = (
        "{observable: mass(gamma gamma), range: [0 GeV, 3 GeV], bins: 30, window: 3 resolution,"
        " resolution: {table: {m_a: [0 GeV, 2 GeV], value: [0.12 GeV, 0.28 GeV]}}, source: assumption}"
    )
    search = load_search(from_files(known["hepdata"], channel=channel))
    check_files(search)
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    found = simulation.observed(region)
    assert found[region.window(1.0)].tolist() == counts[7:13].tolist()
    assert region.window(2.0) == slice(16, 24)  # 0.42 GeV on each side, to the nearest edges
    assert region.binning.window_edges(1.0) == pytest.approx(EDGES[7:14])
    lines = edges_csv(search).splitlines()
    assert lines[0] == "channel,observable,unit,edge"
    assert [float(line.split(",")[3]) for line in lines[1:]] == pytest.approx(EDGES.tolist())
    following = channel.replace("range: [0 GeV, 3 GeV], bins: 30", "bin_width: 1 resolution")
    following = following.replace("GeV]}}", "GeV]}, outside: nearest}")
    own = load_search(
        from_files(known["parquet"], known["parquet"].removesuffix("}") + ", luminosity: 1 fb^-1}", channel=following)
    )
    simulation = Simulation(own)
    (region,) = simulation.regions.values()
    assert simulation.observed(region).tolist() == np.histogram(masses, region.binning.edges)[0].tolist()


def test_a_changed_file_is_another_run(
    from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Catches results of old data that are mixed with those of new ones, a run that cannot be read without its events,
    and events that are read from another file than the one that was checked."""
    folder = tmp_path / "specs"
    known = write_all(folder, masses, counts)
    background = known["root"].removesuffix("}") + ", luminosity: 200 fb^-1}"
    path = from_files(known["parquet"], background)
    search = load_search(path)
    run_search(search, tmp_path / "out", points=1, jobs=1)
    again, _ = load_run(tmp_path / "out")
    assert again.digest == search.digest == load_search(path).digest
    pq.write_table(pa.table({"m": 1e3 * masses[1:]}), folder / "d.parquet")
    changed = load_search(path)
    with pytest.raises(RunDirectoryError, match="holds a run of another spec"):
        run_search(changed, tmp_path / "out", jobs=1)
    simulation = Simulation(search)
    with pytest.raises(SpecError, match="SHA-256 is no longer what it was"):
        simulation.observed(simulation.regions["diphoton"])
    (folder / "d.parquet").unlink()
    reread, _ = load_run(tmp_path / "out")
    assert reread.digest == search.digest
    simulation = Simulation(reread)  # type: ignore[arg-type]
    with pytest.raises(SpecError, match="events are not kept with a run"):
        simulation.observed(simulation.regions["diphoton"])
    one = load_search(from_files(known["csv"], background))
    (folder / "d.csv").write_text((folder / "d.csv").read_text().replace(", 0\n", ", 1\n", 1), encoding="utf-8")
    text = (folder / "d.csv").read_text(encoding="utf-8").splitlines()
    text[2] = ",".join([*text[2].split(",")[:2], "77"])
    (folder / "d.csv").write_text("\n".join(text), encoding="utf-8")
    assert load_search(from_files(known["csv"], background)).digest != one.digest


def test_pseudo_data_and_asimov_data_of_a_file(from_files: Write) -> None:
    """Poisson counts around what the file expects; Asimov data are that. Catches observed data where none are asked for."""
    asimov = templates(from_files("{kind: asimov}"))
    assert asimov.observation.tolist() == [400.0] * 30
    found = templates(from_files("{kind: pseudo, seed: 5}")).observation
    assert np.array_equal(found, np.round(found))
    assert 15.0 < float(np.sum((found - 400.0) ** 2 / 400.0)) < 50.0


def test_a_free_shape_of_a_file_has_a_spurious_signal(from_files: Write) -> None:
    """Catches a shape from a file in which no signal is looked for. The spectrum has a bump that no line follows."""
    low = [f"{x / 10} GeV" for x in range(30)]
    high = [f"{x / 10} GeV" for x in range(1, 31)]
    events = [90000 if bin_ in (9, 10) else 40000 for bin_ in range(30)]
    background = (
        f"{{table: {{low: {low}, high: {high}, events: {events}}}, luminosity: 4000 fb^-1, source: assumption}}"
    )
    choice = "{choice: {kind: spurious-signal, of: combinatorial, source: assumption}}"
    shape = "{bernstein: 1, source: assumption}"
    search = load_search(from_files(background=background, shape=shape, rate="free", systematics=choice))
    points = points_of(search)
    made = points.made(search.points[0], points.shared(list(search.points)))
    (channel,) = made.workspace["channels"]
    spurious = next(sample for sample in channel["samples"] if sample["name"] == "choice")
    (modifier,) = spurious["modifiers"]
    assert 5000.0 < sum(modifier["data"]["hi_data"]) < 15000.0  # two bins with 5000 more than their neighbours


def test_events_in_a_plane(tmp_path: Path) -> None:
    """Reference: the Mahalanobis distance of each event from each point. Catches squares that are not taken, weights that
    are not scaled, and events that are counted in one window alone."""
    shutil.copytree(Path(__file__).parents[2] / "specs", tmp_path / "specs")
    base = load_search(tmp_path / "specs" / "babar" / "dark_higgsstrahlung.yaml")
    some = base.points[:: len(base.points) // 20]
    ellipses = PlaneSimulation(base).windows(some).shapes.ellipses
    rng = np.random.default_rng(6)
    x, y = (ellipses.centres + ellipses.stdevs * rng.normal(size=(500, len(some), 2))).reshape(-1, 2).T
    pq.write_table(pa.table({"h": x, "a": y, "w": np.full(len(x), 0.5)}), tmp_path / "specs" / "babar" / "e.parquet")
    (channel,) = base.spec.channels
    plane = base.spec.plane(channel)
    one, two = plane.observables
    first, second = (("GeV^2" if "2(" in text else "GeV") for text in (one, two))
    columns = f'observables: {{"{one}": {{column: h, unit: {first}}}, "{two}": {{column: a, unit: {second}}}}}'
    entry = f"parquet: e.parquet, {columns}, source: assumption"
    (tmp_path / "specs" / "babar" / "files.yaml").write_text(
        "extends: dark_higgsstrahlung.yaml\n"
        f"data: {{kind: observed, seed: null, files: {{{channel}: {{{entry}}}}}}}\n"
        + "backgrounds:\n"
        + "".join(f"  {name}: null\n" for name in base.spec.backgrounds)
        + f"  other: {{title: other, shape: simulated, rate: fixed, files: {{{channel}: {{{entry}, weight: w, luminosity: 100 fb^-1}}}}}}\n"
        + "systematics:\n"
        + "".join(f"  {name}: null\n" for name in base.spec.systematics),
        encoding="utf-8",
    )
    search = load_search(tmp_path / "specs" / "babar" / "files.yaml")
    windows = PlaneSimulation(search).windows(some)
    assert windows.observation.min() > 100.0
    for row in range(len(some)):
        sx, sy = ellipses.stdevs[row]
        rho = ellipses.correlations[row]
        covariance = np.array([[sx**2, rho * sx * sy], [rho * sx * sy, sy**2]])
        distance = np.column_stack([x, y]) - ellipses.centres[row]
        squared = np.einsum("ij,jk,ik->i", distance, np.linalg.inv(covariance), distance)
        number = float(np.count_nonzero(squared <= ellipses.size**2))
        assert windows.observation[row] == number
        scale = 0.5 * search.spec.luminosity.value / 100.0
        assert windows.backgrounds["other"][row] == pytest.approx([scale * number, scale**2 * number])


def test_a_signal_from_files(from_files: Write, tmp_path: Path) -> None:
    """By hand: contents over what was generated, times the stated efficiency and the luminosity; from events and from bins.

    Catches an efficiency that is taken twice, the signal of another mass, and one that is taken where none is there.
    """
    rng = np.random.default_rng(9)
    weights = rng.uniform(0.5, 1.5, 2000)
    one, two = rng.normal(1.0, 0.2, 2000), rng.normal(2.0, 0.2, 2000)
    pq.write_table(pa.table({"m": one, "w": weights}), tmp_path / "specs" / "one.parquet")
    binned = hist.Hist(hist.axis.Regular(60, -1.0, 5.0), storage=hist.storage.Weight()).fill(two, weight=weights)
    with uproot.recreate(tmp_path / "specs" / "two.root") as file:
        file["h"] = binned
    events = (
        "{at: {m_a: 1 GeV}, generated: 8000, parquet: one.parquet, weight: w, source: assumption,"
        " observables: {mass(gamma gamma): {column: m, unit: GeV}}}"
    )
    histogram = "{at: {m_a: 2000 MeV}, generated: 4000, root: two.root, histogram: h, unit: GeV, source: assumption}"
    path = from_files()
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  events: 5000", f"  files: {{diphoton: [{histogram}, {events}]}}"), encoding="utf-8")
    search = load_search(path)
    check_files(search)
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    for point, masses, generated in zip(search.points, (one, two), (8000.0, 4000.0), strict=True):
        template, efficiency = simulation.signal(region, point)
        assert efficiency == pytest.approx(0.5 * weights.sum() / generated)
        scale = 400.0 * 0.5 / generated
        assert template.nominal.values == pytest.approx(scale * np.histogram(masses, EDGES, weights=weights)[0])
        squares = np.histogram(masses, EDGES, weights=weights**2)[0]
        assert template.nominal.variances == pytest.approx(scale**2 * squares)
    points = points_of(search)
    made = points.made(search.points[1], points.shared(list(search.points)))
    (channel,) = made.workspace["channels"]
    (data,) = (np.array(sample["data"]) for sample in channel["samples"] if sample["name"] == "signal")
    assert data / data.sum() == pytest.approx(template.nominal.values / template.nominal.total)
    for old, new, message in (
        (f", {events}", "", "signal.files: missing: m_a = 1 GeV in diphoton; each mass of the grid needs one entry"),
        ("2000 MeV", "2001 MeV", "signal.files: missing: m_a = 2 GeV in diphoton"),
        ("files: {", "events: 5000\n  files: {", "signal.events: found files and events"),
        ("at: {m_a: 1 GeV}", "at: {m_b: 1 GeV}", "the grid has m_a"),
        ("generated: 8000", "generated: 0", "generated: found 0"),
    ):
        wrong = path.read_text(encoding="utf-8")
        assert old in wrong
        (tmp_path / "specs" / "wrong.yaml").write_text(wrong.replace(old, new, 1), encoding="utf-8")
        with pytest.raises(SpecError, match=re.escape(message)):
            load_search(tmp_path / "specs" / "wrong.yaml")


def test_observed_data_of_a_sideband(tmp_path: Path) -> None:
    """By hand, beside the window and in another quantity. Catches pseudo-data in a sideband of observed ones, and a search
    whose data stop where its window does."""
    source = Path(__file__).parent / "searches"
    folder = tmp_path / "specs"
    shutil.copytree(Path(__file__).parents[2] / "specs" / "experiments", folder / "experiments")
    for name in ("sideband.yaml", "sideband_elsewhere.yaml"):
        text = (source / name).read_text(encoding="utf-8").replace("../../../specs/experiments", "experiments")
        (folder / name).write_text(text, encoding="utf-8")
    m = np.random.default_rng(8).uniform(0.2, 1.2, 3000)
    pq.write_table(pa.table({"m": m}), folder / "in.parquet")
    pq.write_table(pa.table({"m": m[:1000]}), folder / "beside.parquet")
    entry = "{parquet: %s.parquet, observables: {mass(mu+ mu-): {column: m, unit: GeV}}, source: assumption}"
    data = "data: {kind: observed, seed: null, files: {pair: " + entry % "in" + "%s}}\n"
    (folder / "one.yaml").write_text("extends: sideband.yaml\n" + data % "", encoding="utf-8")
    simulation = Simulation(load_search(folder / "one.yaml"))
    (region,) = simulation.regions.values()
    edges = region.binning.edges
    assert edges[0] < 0.3 - 0.05  # the sideband of the first mass
    assert simulation.background(region).observation.tolist() == np.histogram(m, edges)[0].tolist()
    (folder / "two.yaml").write_text("extends: sideband_elsewhere.yaml\n" + data % "", encoding="utf-8")
    with pytest.raises(SpecError, match="missing: pair_sideband; each channel needs its own"):
        load_search(folder / "two.yaml")
    text = "extends: sideband_elsewhere.yaml\n" + data % f", pair_sideband: {entry % 'beside'}"
    (folder / "two.yaml").write_text(text, encoding="utf-8")
    search = load_search(folder / "two.yaml")
    check_files(search)
    simulation = Simulation(search)
    (region,) = simulation.regions.values()
    found = simulation.background(region)
    assert found.observation.tolist() == np.histogram(m, region.binning.edges)[0].tolist()
    assert found.elsewhere is not None
    assert found.elsewhere.observation.tolist() == np.histogram(m[:1000], region.binning.edges)[0].tolist()


def test_a_combination_of_observed_data(
    from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Catches a combination that throws pseudo-data where each search has its own, and one of searches without."""
    known = write_all(tmp_path / "specs", masses, counts)
    process = ("process: e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ a, a", "process: e+ e- -> gamma a, a")
    final_state = ("{found: [K+, gamma, gamma]}", "{found: [gamma, gamma, gamma]}")
    model = ("grid:", "interpretations: {g_per_gev: {model: alp-photon}}\ngrid:")
    for name, data in (("one.yaml", known["csv"]), ("two.yaml", known["parquet"]), ("three.yaml", "{kind: asimov}")):
        path = from_files(data, name=name)
        text = path.read_text(encoding="utf-8")
        for old, new in (process, final_state, model, ("name: from-files", f"name: {name.removesuffix('.yaml')}")):
            assert old in text
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")
    text = (
        "schema: combination/1\nname: both\ntitle: both\nsearches: {first: one.yaml, second: %s}\nparameter: g_per_gev\n"
        "grid: {m_a: {segments: [{values: [1 GeV], source: assumption}]}}\n"
        "statistics: {methods: [cls], confidence_level: 90 %%, source: assumption}\ndata: {kind: observed}\n"
    )
    path = tmp_path / "specs" / "both.yaml"
    path.write_text(text % "three.yaml", encoding="utf-8")
    with pytest.raises(SpecError) as error:
        load_combination(path)
    (problem,) = error.value.problems
    assert problem.path == "searches.second.data"
    assert problem.message == "found asimov; the data of the combination are those observed in each search"
    path.write_text(text % "two.yaml", encoding="utf-8")
    combination = load_combination(path)
    check_files(combination)
    shared = points_of(combination).shared(list(combination.points))
    assert [region.observation.tolist() for region in shared.regions.values()] == [counts.tolist()] * 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["uhi", "root", "hepdata", "parquet", "ttree"])
def test_damaged_files_are_one_error(
    kind: str, from_files: Write, tmp_path: Path, masses: FloatArray, counts: FloatArray
) -> None:
    """Cut at random places, and with bytes that changed. Catches what a library throws, and a file that is cut short and
    read all the same."""
    folder = tmp_path / "specs"
    entry = write_all(folder, masses, counts)[kind]
    path = from_files(entry)
    name = {"ttree": "d.root", "uhi": "d.json", "hepdata": "d.yaml"}.get(kind, f"d.{kind}")
    raw = (folder / name).read_bytes()
    choose = random.Random(7)
    for _ in range(12):
        (folder / name).write_bytes(raw[: choose.randrange(len(raw) - 2)])
        with pytest.raises(UserError) as error:
            load_search(path)
        lines = str(error.value).splitlines()
        assert 1 <= len(lines) <= 3
        assert "data.files.diphoton" in lines[0]
    for _ in range(12):
        damaged = bytearray(raw)
        for _ in range(8):
            damaged[choose.randrange(len(raw))] = choose.randrange(256)
        (folder / name).write_bytes(bytes(damaged))
        fault = _fault_of(path)
        assert fault is None or "data.files.diphoton" in str(fault)


def _fault_of(path: Path) -> UserError | None:
    """What the tool says of the data of a search, if anything."""
    try:
        simulation = Simulation(load_search(path))
        simulation.observed(simulation.regions["diphoton"])
    except UserError as error:
        return error
    return None
