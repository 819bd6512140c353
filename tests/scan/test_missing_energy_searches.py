"""The searches for inelastic dark matter with a dark Higgs, and for a Lambda and a dark baryon: numbers by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.histograms.look import Looker
from modelbuilder.histograms.simulate import beams_of
from modelbuilder.kinematics.chain import simulate_chain
from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.scan.table import Row
from modelbuilder.spec.load import load_search
from modelbuilder.spec.topology import Law, parse_chain
from modelbuilder.theory import dark_scalar
from modelbuilder.workspace.files import read_json

SPECS = Path(__file__).parents[2] / "specs"
MUMU = SPECS / "belle2" / "inelastic_dark_higgs_mumu.yaml"
PIPI = SPECS / "belle2" / "inelastic_dark_higgs_pipi.yaml"
LAMBDA = SPECS / "belle" / "b_to_lambda_invisible.yaml"
MASS = 1.0
SMALL = (
    "grid.m_hp={segments: [{values: [1 GeV], source: assumption}]}",
    "signal.events=30000",
    "signal.lifetime.values=[30 um, 100 um, 1 mm, 1 cm, 10 cm, 1 m, 10 m]",
    "radiation={initial_state: none, source: assumption}",
    "statistics.methods=[bayesian]",
    "systematics={}",
)
FEW = "backgrounds.other.expected.pair.events=[0.0001]"
"""So few events that pseudo-data have none."""


def rows_of(path: Path, spec: Path, *overrides: str) -> list[Row]:
    run_search(load_search(spec, overrides=overrides), path, jobs=1)
    return list(load_run(path)[1])


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("dark_higgs") / "run"
    rows_of(path, MUMU, *SMALL, FEW)
    return path


def at_ctau(rows: list[Row], ctau: float) -> Row:
    (found,) = [row for row in rows if row["ctau_cm"] not in ("", None) and float(row["ctau_cm"]) == ctau]
    return found


def own_row(rows: list[Row]) -> Row:
    """That of the couplings at the lifetimes which they give themselves."""
    (found,) = [row for row in rows if row["ctau_cm"] in ("", None)]
    return found


def efficiency_by_hand(ctau: float, n_events: int) -> tuple[float, float]:
    """True momenta and points against the numbers of the files; only decay points are smeared. With its error."""
    laws = {"e+ e-": Law(name="vector-scalar", vector="Ap"), "chi2": Law(name="dark-current", parameter=3.0)}
    chain = parse_chain(
        "e+ e- -> Ap hp, Ap -> chi1 chi2, chi1 -> invisible, chi2 -> chi1 e+ e-, hp -> mu+ mu-",
        masses={"Ap": 3.0, "chi1": 1.0, "chi2": 1.4, "hp": MASS},
        ctaus={"chi2": 2.908, "hp": ctau},
        laws=laws,
    )
    beams = beams_of(load_search(MUMU).spec.experiment)
    events = simulate_chain(chain, beams, isr=False, n_events=n_events, seed=77, stream="by hand")
    rng = np.random.default_rng(5)
    seen = np.ones(n_events, dtype=bool)
    for name in ("mu+", "mu-", "e+", "e-"):
        p = events.momentum(name)
        transverse = np.hypot(p[:, 1], p[:, 2])
        theta = np.degrees(np.arctan2(transverse, p[:, 3]))
        seen &= (transverse > 0.1) & (theta > 17.0) & (theta < 150.0)
    chance = np.full(n_events, 0.5 * 0.98**4 * 0.90**2 * 0.94**2)
    for name, least in (("chi2", 0.05), ("hp", 0.0)):
        point = events.points[:, events.topology.place(name)]
        smeared = point + rng.normal(0.0, 0.01, point.shape)
        rho = np.hypot(smeared[:, 0], smeared[:, 1])
        seen &= (rho > least) & (rho < 60.0) & (smeared[:, 2] > -31.0) & (smeared[:, 2] < 100.0)
        chance *= np.interp(rho, [14.0, 60.0], [1.0, 0.2])
        if name == "hp":
            pair = events.momentum("hp")[:, 1:]
            lengths = np.linalg.norm(pair, axis=1) * np.linalg.norm(smeared, axis=1)
            seen &= np.arccos(np.clip(np.sum(pair * smeared, axis=1) / lengths, -1.0, 1.0)) < 0.1
    values = events.weights / events.weights.mean() * chance * seen
    return float(values.mean()), float(values.std() / math.sqrt(n_events))


@pytest.mark.parametrize("ctau", [0.01, 1.0, 100.0])
def test_efficiency_by_hand(run: Path, ctau: float) -> None:
    """Second method: a sample made at this lifetime, with masks in numpy. Catches a vertex, a cut or an identification
    that is not in the efficiency, and weights of lifetimes that are off. Momenta are smeared in the run only."""
    row = at_ctau(list(load_run(run)[1]), ctau)
    expected, error = efficiency_by_hand(ctau, 100_000)
    total = math.hypot(error, float(row["signal_efficiency_stdev"] or 0.0))
    assert total < 0.12 * expected
    assert float(row["signal_efficiency"] or 0.0) == pytest.approx(expected, abs=4.0 * total + 0.01 * expected)


def counts_of(run: Path, row: Row) -> tuple[list[float], list[float]]:
    """Of the window and of its sideband: signal at a strength of 1, and what is observed."""
    workspace = read_json(run / "workspaces" / f"{str(row['point']).split('_ctau_')[0]}.json")
    observed = {one["name"]: one["data"][0] for one in workspace["observations"]}
    signal = {
        channel["name"]: sum(one["data"][0] for one in channel["samples"] if one["name"] == "signal")
        for channel in workspace["channels"]
    }
    names = sorted(signal, key=len)
    assert names[1] == f"{names[0]}_sideband"
    return [signal[name] for name in names], [observed[name] for name in names]


def test_no_event_excludes_three(run: Path) -> None:
    """Closed form: exp(-s) = 0.05 for a flat prior, s what window and sideband would have of the signal. Catches a
    background that is subtracted where nothing is seen, and a luminosity or a window that is counted twice or not at all."""
    rows = list(load_run(run)[1])
    shape = at_ctau(rows, 1.0)
    signal, observed = counts_of(run, shape)
    assert observed == [0.0, 0.0]
    selected = 365.0 * float(shape["reference_cross_section_fb"] or 0.0) * float(shape["signal_efficiency"] or 0.0)
    assert signal[0] / selected == pytest.approx(math.erf(2.0 / math.sqrt(2.0)), abs=0.04)  # two standard deviations
    assert signal[1] / selected < 0.02
    for ctau in (0.01, 1.0, 100.0):
        row = at_ctau(rows, ctau)
        limit = -math.log(0.05) / (365.0 * sum(signal) / selected * float(row["signal_efficiency"] or 0.0))
        assert float(row["cross_section_fb_observed"] or 0.0) == pytest.approx(limit, rel=1e-4)


def test_the_edge_moves_with_the_tracking_volume(run: Path, tmp_path: Path) -> None:
    """Closed form: of a dark Higgs that flies far, a volume a third as wide sees about a third as many, and c tau goes as
    1/theta^2. Catches an edge of theta that does not know where tracks can begin."""
    near = own_row(rows_of(tmp_path / "near", MUMU, *SMALL, FEW, "experiment.tracks.volume.rho=5 cm"))
    wide = own_row(list(load_run(run)[1]))
    reach = [dark_scalar.decay_length(MASS, float(row["sin_theta_observed"] or 0.0)) for row in (near, wide)]
    assert 1.0 < reach[1] < 3000.0
    # chi2 are lost in the narrow one as well
    assert 0.02 < reach[0] / reach[1] < 0.5
    # theta that are large enough for decays near the collision are excluded up to about the same
    edges = [float(row["sin_theta_observed_upper_edge"] or 0.0) for row in (near, wide)]
    assert edges[0] == pytest.approx(edges[1], rel=0.25)


def test_the_reach_of_chi2() -> None:
    """Second method: chi2 simulated at other lifetimes. Catches a reach that is not that of the cuts and of the volume: it
    is what gives limits on epsilon, to the square root of the square root of this ratio."""
    search = load_search(MUMU)
    ctaus = (2.908, 10.0, 100.0, 1000.0)
    look = Looker(search, masses=(MASS,), n_events=60_000, lifetimes=("chi2", ctaus)).look()
    reach = float(search.spec.interpretations["epsilon"].parameters["chi2_reach"])
    first = look.lifetimes[0]
    for found in look.lifetimes[1:]:
        expected = math.expm1(-reach / found.ctau) / math.expm1(-reach / first.ctau)
        error = math.hypot(found.efficiency_stdev / found.efficiency, first.efficiency_stdev / first.efficiency)
        assert found.efficiency / first.efficiency == pytest.approx(expected, rel=0.10 + 3.0 * error)


def test_the_mass_of_the_kaon_stays_a_gap() -> None:
    """Catches a mass, or half a window, in the vetoed range; and a grid that does not begin again behind it."""
    search = load_search(PIPI)
    masses = np.array(sorted({point.values["m_hp"] for point in search.points}))
    assert not np.any((masses > 0.467) & (masses < 0.529))
    below, above = masses[masses < 0.5].max(), masses[masses > 0.5].min()
    assert below > 0.455
    assert above < 0.540
    (gap,) = search.spec.grid["m_hp"].gaps
    assert (gap.low, gap.high) == (0.467, 0.529)


def test_lambda_and_a_dark_baryon_by_hand(tmp_path: Path) -> None:
    """Closed form: 2.303 events over number, known fraction, efficiency and window. Catches a branching fraction of Lambda
    that is missing or stands twice, and signal that leaks into the sideband but is not looked for there."""
    overrides = (
        "grid.m_psi={segments: [{values: [2 GeV], source: assumption}]}",
        "statistics.methods=[bayesian]",
        "systematics={}",
        "backgrounds.other.expected.tagged.events=[0.0001, 0.0001]",
    )
    (row,) = rows_of(tmp_path / "lambda", LAMBDA, *overrides)
    signal, observed = counts_of(tmp_path / "lambda", row)
    assert observed == [0.0, 0.0]
    assert signal[1] == pytest.approx(0.15 * signal[0], rel=1e-6)
    per_fraction = signal[0] / float(row["reference_branching_fraction"] or 0.0)
    window = math.erf(2.0 / math.sqrt(2.0))
    # six tracks are found, a kaon is recognised, and each track is within 17 to 150 degrees
    assert per_fraction / (7.57e8 * 0.641 * 2e-3 * window) == pytest.approx(0.98**6 * 0.90 * 0.60, rel=0.08)
    limit = -math.log(0.1) / (1.15 * per_fraction)
    assert float(row["branching_fraction_observed"] or 0.0) == pytest.approx(limit, rel=1e-4)
