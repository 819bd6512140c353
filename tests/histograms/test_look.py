"""A look at samples of several kinds of search: cut flow, peak, events in a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from modelbuilder.errors import UserError
from modelbuilder.histograms.events_file import read_events
from modelbuilder.histograms.look import Look, Looker, parse_lifetimes, parse_masses, point_at
from modelbuilder.spec.load import LoadedSearch, load_search

SEARCHES = Path(__file__).parent / "searches"
SPECS = Path(__file__).parents[2] / "specs" / "belle2"
N = 20_000


def search(name: str, *overrides: str) -> LoadedSearch:
    folder = SEARCHES if (SEARCHES / f"{name}.yaml").is_file() else SPECS
    return load_search(folder / f"{name}.yaml", overrides=overrides)


def look(name: str, *overrides: str, n_events: int = N, **more: object) -> Look:
    return Looker(search(name, *overrides), n_events=n_events, **more).look()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "mass", "position"),
    [
        ("alp_gammagamma_2018", 1.0, 1.0),
        ("zprime_invisible_2018", 5.0, 5.0),
        ("b_to_k_scalar", 1.0, math.sqrt(1.0 - 4.0 * 0.1056583755**2)),
        ("single_photon", 8.0, 64.0),
    ],
)
def test_peaks_are_where_the_mass_puts_them(name: str, mass: float, position: float) -> None:
    """Closed form: m, m^2 and sqrt(m^2 - 4 m_mu^2). Catches another observable, unit or hypothesis than was asked for."""
    found = look(name, "radiation.initial_state=none", masses=(mass,))
    assert found.fit is not None
    assert found.fit.reference == pytest.approx(position, rel=1e-7)
    assert abs(found.fit.location - position) < 0.3 * found.fit.sigma
    assert found.point.mass == mass


def test_a_broad_spectrum_has_its_end_where_kinematics_puts_it() -> None:
    """Closed form: in the rest frame of the tau the electron of tau -> e alpha has one energy; the tag smears it."""
    m_tau, m_alpha = 1.77686, 1.4
    x = (m_tau**2 + 0.000511**2 - m_alpha**2) / m_tau**2
    found = look("tau_to_e_alpha", "radiation.initial_state=none", masses=(m_alpha,), n_events=50_000)
    centres = 0.5 * (found.edges[1:] + found.edges[:-1])
    mean = float(np.sum(centres * found.nominal.values) / found.nominal.total)
    assert mean == pytest.approx(x, rel=0.1)


def test_histogram_and_flow_are_of_the_same_events() -> None:
    """Invariant: all that passes is in the histogram or outside of it; variations change nominal templates."""
    found = look("zprime_invisible_2018", masses=(3.0,))
    passed = found.flow[-1].efficiency * found.n_events
    assert found.nominal.total + found.underflow + found.overflow == pytest.approx(passed)
    assert [step.text for step in found.flow][:3] == [
        "simulated",
        "found",
        "transverse_opening_angle(mu+, mu-) above 90 deg",
    ]
    assert all(after.efficiency <= before.efficiency for before, after in zip(found.flow, found.flow[1:], strict=False))
    up, down = found.varied["tracking"]
    # two tracks, each 2 % up and down, at 98 %: up stays below 1
    assert up.total / found.nominal.total == pytest.approx(1.02**2, rel=1e-6)
    assert down.total / found.nominal.total == pytest.approx(0.98**2, rel=1e-6)


def test_cuts_on_a_flight_bind_what_flies() -> None:
    """Catches such a cut that throws away a background without the particle, or does nothing to the signal.

    By hand: S of B+ -> K+ S decays beyond 2 cm with exp(-2 cm m/(p c tau)), p its momentum.
    """
    cut = "selection=[{quantity: flight_distance(S), above: 2 cm, source: assumption}]"
    changes = ("signal.lifetimes.S.value=5 cm", "final_state.vertices.S.rho=[0 cm, 60 cm]")
    flows = [look("b_to_k_scalar", *changes, text, masses=(1.0,)).flow for text in (cut, "selection=[]")]
    assert [step.text for step in flows[0]] == [*(step.text for step in flows[1]), "flight_distance(S) above 2 cm"]
    assert flows[0][-1].efficiency == pytest.approx(
        flows[1][-1].efficiency * math.exp(-2.0 * 1.0 / (2.5 * 5.0)), rel=0.05
    )
    prompt = [look("b_to_k_scalar", *changes, text, sample="prompt").flow for text in (cut, "selection=[]")]
    assert prompt[0] == prompt[1]


def test_a_look_at_many_lifetimes() -> None:
    """Catches a table of another sample or of other cuts; the lifetime of the spec gives what the cut flow says."""
    found = look("b_to_k_scalar", masses=(1.0,), lifetimes=parse_lifetimes("S = 1 mm, 1 cm, 10 m"))
    assert [row.ctau for row in found.lifetimes] == [0.1, 1.0, 1000.0]
    own, last = found.lifetimes[1], found.flow[-1]
    assert abs(own.efficiency - last.efficiency) < 4.0 * math.hypot(own.efficiency_stdev, last.efficiency_stdev)
    assert found.as_dict()["lifetimes"][2]["ctau_cm"] == 1000.0
    assert any("c tau of S" in line for line in found.lines())
    few = look("b_to_k_scalar", masses=(1.0,), lifetimes=("S", (1e-3, 1e4)), n_events=1500)
    assert any("too few: simulate more" in line for line in few.lines())
    assert look("b_to_k_scalar", masses=(1.0,)).lifetimes == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("S", "it reads like 'S = 0.1 mm, 1 cm, 2 m'"),
        ("S = 1", "--lifetime: found '1' without a unit; expected a length"),
        ("S = 0 cm", "each above 0"),
        ("S = 1 GeV", "'GeV' is not the unit of a length"),
        ("K+ = 1 cm", "no K+ decays in"),
        ("T = 1 cm", "no T decays in"),
        ("Y(4S) = 1 cm", "no Y(4S) decays in"),
    ],
)
def test_refused_lifetimes(text: str, message: str) -> None:
    """Catches lifetimes that are taken for something else, or given to what does not decay."""
    with pytest.raises(UserError) as raised:
        Looker(search("b_to_k_scalar"), lifetimes=parse_lifetimes(text), n_events=1000)
    assert message in str(raised.value)


def test_a_cut_belongs_to_its_masses() -> None:
    """Catches a cut that is kept, or dropped, whatever the mass."""
    texts = [[step.text for step in look("zprime_invisible_2018", masses=(mass,)).flow] for mass in (2.0, 4.0)]
    cut = "recoil_pt_cm(mu+ mu-) above 0.4 GeV"
    assert [cut in text for text in texts] == [True, False]


def test_events_in_a_file(tmp_path: Path) -> None:
    """Invariant: the observable computed again from the momenta in the file; weights add up to the cut flow."""
    looker = Looker(search("zprime_invisible_2018"), masses=(3.0,), n_events=N)
    path = tmp_path / "events.parquet"
    number = looker.write_events(path)
    table = read_events(path)
    assert table.n_events == number
    found = looker.look()
    columns = table.columns
    total = found.flow[-1].sum_weights
    assert float(columns["weight"].sum()) == pytest.approx(total)
    simulated = float(table.metadata["sum_of_simulated_weights"])
    assert total / simulated == pytest.approx(found.flow[-1].efficiency)
    beams = looker.simulation.beams
    momentum = np.array(beams.four_momentum)[:, None] - sum(
        np.array([columns[f"{name}_{axis}"] for axis in ("E", "px", "py", "pz")]) for name in ("mu_plus", "mu_minus")
    )
    square = momentum[0] ** 2 - np.sum(momentum[1:] ** 2, axis=0)
    assert np.sign(square) * np.sqrt(np.abs(square)) == pytest.approx(columns["recoil_mu_plus_mu_minus"], abs=1e-6)
    true = np.array([columns[f"true_Zp_{axis}"] for axis in ("E", "px", "py", "pz")])
    assert np.sqrt(true[0] ** 2 - np.sum(true[1:] ** 2, axis=0)) == pytest.approx(3.0, abs=1e-6)
    assert np.all(np.diff(columns["event"]) > 0)
    assert (table.metadata["sample"], table.metadata["simulated_events"]) == ("signal", str(N))
    assert table.metadata["digest"] == looker.search.digest
    assert table.units["recoil_mu_plus_mu_minus"] == "GeV"


ONE_CUT = "selection=[{quantity: energy_cm(gamma), above: 1.8 GeV, source: assumption}]"
# without the cut on the direction of the recoil photons may be lost along the beams
FARTHER = "backgrounds.mu_mu_gamma.laws={e+ e-: {law: leptons-photon, min_energy: 0.2 GeV, max_cos: 0.98}}"


def test_several_ways_to_find_a_final_state_are_rows_of_their_own(tmp_path: Path) -> None:
    """By hand: two photons, one found: each event may have two rows, one for each photon."""
    path = tmp_path / "events.parquet"
    looker = Looker(search("single_photon", ONE_CUT), sample="two_photons", masses=(1.0,), n_events=5000)
    looker.write_events(path)
    columns = read_events(path).columns
    _, counts = np.unique(columns["event"], return_counts=True)
    assert set(counts) <= {1, 2}
    assert "true_Ap_E" not in columns


def test_decay_points_are_in_the_file(tmp_path: Path) -> None:
    """Invariant: the points lie in the volume that the final state asks for."""
    path = tmp_path / "events.parquet"
    Looker(search("b_to_k_scalar"), masses=(1.0,), n_events=2000).write_events(path)
    columns = read_events(path).columns
    rho = np.hypot(columns["S_decay_x"], columns["S_decay_y"])
    assert np.all((rho >= 0.05) & (rho <= 60.0))


def test_masses_off_the_grid() -> None:
    """Catches a point that is silently moved to the grid, or one on it that gets other random numbers."""
    loaded = search("zprime_invisible_2018")
    assert point_at(loaded, loaded.points[3].masses) is loaded.points[3]
    assert point_at(loaded, None) in loaded.points
    off = point_at(loaded, (3.33333,))
    assert (off.name, off.mass, off.channel) == ("m_Zp_3p3333", 3.3333, "recoil")


@pytest.mark.parametrize(("text", "mass"), [("3", 3.0), ("3 GeV", 3.0), ("300 MeV", 0.3)])
def test_masses_with_and_without_unit(text: str, mass: float) -> None:
    """By hand."""
    assert parse_masses(text) == pytest.approx((mass,))


def test_what_is_refused() -> None:
    """Catches a look at nothing, and messages without the remedy."""
    loaded = search("zprime_invisible_2018")
    with pytest.raises(UserError, match=r"there is no sample 'tau_tauu'; did you mean 'tau_tau'"):
        Looker(loaded, sample="tau_tauu", n_events=N)
    with pytest.raises(UserError, match=r"m_Zp = 11 GeV: it must lie between 0 and the collision energy, 10.58 GeV"):
        Looker(loaded, masses=(11.0,), n_events=N)
    with pytest.raises(UserError, match=r"at least 10\.6113 GeV"):
        Looker(search("zprime_invisible_2018", "selection=[]", FARTHER), masses=(10.4,), n_events=N).look()
    with pytest.raises(UserError, match=r"mass\(Zp\): Zp is invisible"):
        Looker(loaded, observable="mass(Zp)", n_events=N)
    with pytest.raises(UserError, match="--point: found '3 cm'"):
        parse_masses("3 cm")
    nothing = "selection=[{quantity: energy(mu+), above: 20 GeV, source: assumption}]"
    with pytest.raises(UserError, match="none of the 20000 simulated events of signal passes"):
        Looker(search("zprime_invisible_2018", nothing, FARTHER), n_events=N).look()


def test_a_look_says_which_lifetime_it_is_at() -> None:
    """Invariant: with lifetimes as an axis the text and the efficiency are those of the longest; a background has none.

    Catches a heading that could be read as of a prompt decay.
    """
    scanned = "signal.lifetime={of: S, values: [1 mm, 10 m], source: assumption}"
    found = look("b_to_k_scalar", "signal.lifetimes=null", scanned, masses=(1.0,))
    assert "at m_S = 1 GeV, c tau = 1000 cm" in found.lines()[0]
    alone = look("b_to_k_scalar", "signal.lifetimes.S.value=10 m", masses=(1.0,))
    assert found.flow == alone.flow
    assert "c tau" not in look("b_to_k_scalar", "signal.lifetimes=null", scanned, sample="prompt").lines()[0]


def test_lines_for_a_reader() -> None:
    """Catches a line without unit or error, and a relative efficiency that is not that of the step before."""
    found = look("zprime_invisible_2018", masses=(3.0,))
    lines = found.lines()
    assert lines[0] == f"signal: e+ e- -> mu+ mu- Zp, Zp -> invisible at m_Zp = 3 GeV, {N} events"
    assert any(line.startswith("  simulated") and "100.0000 +- 0.0000 %" in line for line in lines)
    share = 100.0 * found.flow[2].efficiency / found.flow[1].efficiency
    assert lines[5].endswith(f"{share:.3f} %")
    assert "recoil(mu+ mu-): peak at" in lines[-1] or "recoil(mu+ mu-): peak at" in lines[-2]
    plain = found.as_dict()
    assert plain["cut_flow"][2]["efficiency"] == found.flow[2].efficiency
    assert plain["m_Zp_gev"] == 3.0
