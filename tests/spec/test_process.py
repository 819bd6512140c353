"""Processes, final states and observables of a spec: what is read, and what is refused before anything runs.

Z: the search, E: its experiment file.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.check_file import check_file
from modelbuilder.spec.cuts import Cut
from modelbuilder.spec.load import load_experiment, load_search
from modelbuilder.spec.process import (
    WITH_CROSS_SECTION,
    FinalState,
    PhotonLaw,
    PlainLaw,
    Simulated,
    candidates_of,
    chain_of,
    check_law_numbers,
    hypotheses,
    seen_kinds,
)
from modelbuilder.spec.search import Varied
from modelbuilder.spec.topology import LAWS, Law, parse_chain
from modelbuilder.theory.models import MODELS

SEARCH = "specs/belle2/zprime.yaml"
FILES = {"Z": SEARCH, "E": "specs/experiments/belle2.yaml"}
Problems = Callable[..., list[str]]


@pytest.fixture
def problems(specs: Path) -> Problems:
    """A function that replaces text in the copied search and gives the lines that `validate` prints."""

    def lines(*edits: tuple[str, str], letter: str = "Z") -> list[str]:
        path = Path(FILES[letter])
        text = path.read_text(encoding="utf-8")
        for old, new in edits:
            assert text.count(old) >= 1, f"{old!r} is not in {path}: the test has to follow the spec"
            text = text.replace(old, new, 1)
        path.write_text(text, encoding="utf-8")
        found = [str(problem) for problem in check_file(Path(SEARCH)).problems]
        for short, name in FILES.items():
            found = [f"{short}{line.removeprefix(name)}" if line.startswith(name) else line for line in found]
        return found

    return lines


SIGNAL = "process: e+ e- -> mu+ mu- Zp, Zp -> invisible"
LAW = "  laws: {e+ e-: leptons-vector}\n"
CASES: list[tuple[str, list[tuple[str, str]], list[str]]] = [
    ("sound", [("seed: 1}", "seed: 2}")], []),
    (
        "no law of a hypothetical production",
        [("  laws: {e+ e-: leptons-vector}\n", "")],
        [
            "Z:8:3: signal.process: at m_Zp = 1 GeV: e+ e- -> mu+ mu- Zp, Zp -> invisible: e+ e- -> mu+ mu- Zp: name the law of e+ e-: 'leptons-vector', 'leptons-scalar', 'leptons-pseudoscalar', or 'phase-space' if a flat distribution is meant"
        ],
    ),
    (
        "unknown law",
        [("leptons-vector", "leptons-vectr")],
        [
            "Z:9:10: signal.laws.e+ e-: found 'leptons-vectr'; expected 'phase-space', 'sine-squared', 'cosine-squared', 'resonance', 'fermion-pair', 'photon-pseudoscalar', 'vector-scalar', 'leptons-vector', 'leptons-scalar', 'leptons-pseudoscalar', 'mixed-leptons-vector', 'mixed-leptons-scalar', 'mixed-leptons-pseudoscalar', 'leptonic', 'neutral-lepton', 'vector-to-fermions', 'vector-to-scalars' or 'vector-hadron'; did you mean 'leptons-vector'?"
        ],
    ),
    (
        "production below threshold",
        [("5 GeV]", "10.5 GeV]")],
        [
            "Z:8:3: signal.process: at m_Zp = 10.5 GeV: e+ e- -> mu+ mu- Zp: the products have at least 10.7113 GeV, but sqrt(s) is 10.5796 GeV; they cannot be produced"
        ],
    ),
    (
        "decay below threshold",
        [
            ("process: e+ e- -> mu+ mu- Zp, Zp -> invisible", "process: e+ e- -> mu+ mu- Zp, Zp -> tau+ tau-"),
            ("found: [mu+, mu-]", "found: [mu+, mu-]"),
        ],
        [
            "Z:8:3: signal.process: at m_Zp = 1 GeV: e+ e- -> mu+ mu- Zp, Zp -> tau+ tau-: Zp -> tau+ tau-: the products have at least 3.55386 GeV, but Zp has 1 GeV; the decay is not possible"
        ],
    ),
    (
        "charge",
        [("process: e+ e- -> mu+ mu- Zp, Zp -> invisible", "process: e+ e- -> mu+ mu+ Zp, Zp -> invisible")],
        [
            "Z:8:3: signal.process: at m_Zp = 1 GeV: e+ e- -> mu+ mu+ Zp, Zp -> invisible: e+ e- -> mu+ mu+ Zp: charge 0 goes to 2"
        ],
    ),
    (
        "no collision",
        [("process: e+ e- -> mu+ mu- Zp, Zp -> invisible", "process: Zp -> mu+ mu-")],
        ["Z:8:3: signal.process: found 'Zp -> mu+ mu-'; a process begins with the collision, as in 'e+ e- -> gamma a'"],
    ),
    (
        "grid of another particle",
        [("  m_Zp:\n    seg", "  m_Z:\n    seg"), (", where: m_Zp < 4 GeV", "")],
        ["Z:13:3: grid.m_Z: found 'm_Z'; the mass of the signal process is named 'm_Zp'"],
    ),
    (
        "mass given twice",
        [("  laws: {e+ e-: leptons-vector}\n", "  laws: {e+ e-: leptons-vector}\n  masses: {Zp: 3 GeV}\n")],
        ["Z:14:3: grid.m_Zp: found 'm_Zp'; the signal process has no particle whose mass is not known"],
    ),
    (
        "recoil against nothing",
        [("observable: recoil(mu+ mu-)", "observable: recoil()")],
        ["Z:25:5: channels.recoil.observable: recoil(): a recoil against nothing; name the particles that recoil"],
    ),
    (
        "observable of a particle that is not there",
        [("observable: recoil(mu+ mu-)", "observable: recoil(e+ mu-)")],
        [
            "Z:25:5: channels.recoil.observable: recoil(e+ mu-): there is no e+ in e+ e- -> mu+ mu- Zp, Zp -> invisible; there are mu+, mu-, Zp"
        ],
    ),
    (
        "mass of what is not seen",
        [("observable: recoil(mu+ mu-)", "observable: mass(Zp)")],
        [
            "Z:25:5: channels.recoil.observable: mass(Zp): Zp is invisible, so nothing of it is measured; use what recoils or is missing"
        ],
    ),
    (
        "a particle that is vetoed",
        [("theta(mu+), between", "theta(gamma), between")],
        [
            "Z:20:6: selection[0].quantity: theta(gamma): there is no gamma in e+ e- -> mu+ mu- Zp, Zp -> invisible; there are mu+, mu-, Zp"
        ],
    ),
    (
        "flight of what no sample has",
        [("quantity: theta(mu+), between: [37 deg, 120 deg]", "quantity: pointing_angle(S), below: 3 deg")],
        ["Z:20:6: selection[0].quantity: pointing_angle(S): no particle S decays in any sample; known: tau+, tau-"],
    ),
    (
        "flight of what only a background has",
        [("quantity: theta(mu+), between: [37 deg, 120 deg]", "quantity: flight_distance(tau-), below: 1 mm")],
        [],
    ),
    (
        "a width that the law cannot have",
        [
            ("process: e+ e- -> mu+ mu- gamma", "process: e+ e- -> mu+ mu- phi, phi -> K+ K-"),
            ("{law: leptons-photon, min_energy: 0.2 GeV, max_cos: 0.9999}", "leptons-vector"),
            ("    events: 100000\n", "    events: 100000\n    cross_section: {value: 1 pb, source: assumption}\n"),
        ],
        [
            "Z:34:5: backgrounds.mumugamma.laws: e+ e- -> mu+ mu- phi, phi -> K+ K-: the law 'leptons-vector' needs fixed masses, but that of phi has a width; write `narrow: [phi]` to neglect it"
        ],
    ),
    (
        "a width that is neglected",
        [
            ("process: e+ e- -> mu+ mu- gamma", "process: e+ e- -> mu+ mu- phi, phi -> K+ K-\n    narrow: [phi]"),
            ("{law: leptons-photon, min_energy: 0.2 GeV, max_cos: 0.9999}", "leptons-vector"),
            ("    events: 100000\n", "    events: 100000\n    cross_section: {value: 1 pb, source: assumption}\n"),
        ],
        [],
    ),
    (
        "photons that no collision has",
        [("min_energy: 0.2 GeV, max_cos", "min_energy: 6 GeV, max_cos")],
        [
            "Z:34:5: backgrounds.mumugamma.laws: e+ e- -> mu+ mu- gamma: min_energy is 6 GeV, but the photon has at most 5.288 GeV"
        ],
    ),
    (
        "flight of several",
        [("quantity: theta(mu+), between: [37 deg, 120 deg]", "quantity: pointing_angle(tau+ tau-), below: 3 deg")],
        [
            "Z:20:6: selection[0].quantity: pointing_angle(tau+ tau-): pointing_angle takes one particle that decays",
        ],
    ),
    (
        "unknown observable",
        [("quantity: theta(mu+)", "quantity: thetta(mu+)")],
        ["Z:20:6: selection[0].quantity: thetta(mu+): unknown observable 'thetta'; did you mean theta?"],
    ),
    (
        "unit of a cut",
        [("[37 deg, 120 deg]", "[37 deg, 120 GeV]")],
        [
            "Z:20:46: selection[0].between[1]: found '120 GeV': 'GeV' is not the unit of an angle; expected for example '83 mrad'"
        ],
    ),
    (
        "two forms of a cut",
        [("above: 500 MeV", "above: 500 MeV, below: 1 GeV")],
        ["Z:21:5: selection[1]: found above and below; a cut has one of between, above, below, turn_on"],
    ),
    (
        "a cut without a form",
        [("above: 500 MeV, ", "")],
        ["Z:21:5: selection[1]: found none; a cut has one of between, above, below, turn_on"],
    ),
    (
        "turn-on without a width",
        [("width: 0.1 GeV", "width: 0 GeV")],
        ["Z:22:61: selection[2].turn_on.width: found '0 GeV'; a width must be above 0"],
    ),
    (
        "turn-on in several values",
        [("quantity: energy(mu+ mu-), turn_on", "quantity: energy(mu+), at_least: 1, turn_on")],
        ["Z:22:29: selection[2].at_least: a turn-on is an efficiency of one combination; remove at_least"],
    ),
    (
        "more than there are",
        [("above: 500 MeV,", "above: 500 MeV, at_least: 2,")],
        ["Z:21:48: selection[1].at_least: found 2; pt_cm(mu+ mu-) has 1 values in an event"],
    ),
    (
        "final state that is not there",
        [("found: [mu+, mu-]", "found: [mu+, mu-, mu-]")],
        [
            "Z:17:3: final_state.found: e+ e- -> mu+ mu- Zp, Zp -> invisible: the final state has 2 mu-, but visible are mu+, mu-",
            "Z:33:5: backgrounds.mumugamma.process: e+ e- -> mu+ mu- gamma: the final state has 2 mu-, but visible are mu+, mu-, gamma",
            "Z:41:5: backgrounds.pions.process: e+ e- -> tau+ tau-, tau+ -> anti-nu_tau pi+, tau- -> nu_tau mu- anti-nu_mu: the final state has 2 mu-, but visible are mu+, mu-",
        ],
    ),
    (
        "taken for another charge",
        [("{pi+: mu+}", "{pi+: mu-}")],
        [
            "Z:43:5: backgrounds.pions.taken_for: e+ e- -> tau+ tau-, tau+ -> anti-nu_tau pi+, tau- -> nu_tau mu- anti-nu_mu: pi+ cannot be taken for mu-: only tracks can, for one of the same charge"
        ],
    ),
    (
        "taken for something without a probability",
        [("{pi+: mu+}", "{pi+: e+}")],
        [
            "Z:41:5: backgrounds.pions.process: e+ e- -> tau+ tau-, tau+ -> anti-nu_tau pi+, tau- -> nu_tau mu- anti-nu_mu: the final state has 1 mu+, but visible are e+, mu-",
            "Z:43:5: backgrounds.pions.taken_for: the experiment has no probability to take a pion for a electron; tracks.identification has muon as muon, pion as muon",
        ],
    ),
    (
        "cross section missing",
        [("    cross_section: {value: 34.6 pb, source: assumption}\n", "")],
        [
            "Z:39:3: backgrounds.pions.cross_section: missing; this process does not bring one of its own, so give `cross_section: {value: ..., source: ...}`"
        ],
    ),
    (
        "cross section twice",
        [("    events: 100000\n", "    events: 100000\n    cross_section: {value: 1 pb, source: assumption}\n")],
        [
            "Z:36:5: backgrounds.mumugamma.cross_section: this process brings its own cross section at lowest order; remove the key"
        ],
    ),
    (
        "a window of no mass",
        [("observable: recoil(mu+ mu-)", "observable: energy(mu+)")],
        [
            "Z:27:5: channels.recoil.window: a window follows a mass: mass, recoil, constrained_mass, mass2, recoil2, reduced_mass; give `range` and `bins` for 'energy(mu+)'"
        ],
    ),
    (
        "range and window",
        [("    window: 20 resolution\n", "    window: 20 resolution\n    range: [0 GeV, 5 GeV]\n    bins: 10\n")],
        ["Z:30:5: channels.recoil.bin_width: a range has equal `bins`; remove bin_width, or the range"],
    ),
    (
        "range without bins",
        [("    window: 20 resolution\n    bin_width: 0.5 resolution\n", "    range: [0 GeV, 5 GeV]\n")],
        ["Z:24:3: channels.recoil.bins: missing; with `range` a channel needs it"],
    ),
    (
        "vertex of nothing",
        [
            (
                "  vetoed: [tracks, photons]\n",
                "  vetoed: [tracks, photons]\n  vertices: {S: {rho: [1 cm, 2 cm], source: assumption}}\n",
            )
        ],
        ["Z:19:14: final_state.vertices.S: found 'S'; no particle of this name decays in any sample"],
    ),
    (
        "vertex of twins",
        [
            (
                "  vetoed: [tracks, photons]\n",
                "  vetoed: [tracks, photons]\n  vertices: {K_S0: {rho: [1 um, 2 cm], source: assumption}}\n",
            ),
            ("mu+ mu- Zp, Zp -> invisible", "mu+ mu- Zp, Zp -> K_S0 K_S0, K_S0 -> nu_mu anti-nu_mu"),
        ],
        [
            "Z:19:14: final_state.vertices.K_S0: 2 K_S0 decay in signal, and a vertex binds one; give one for K_S0[2] too"
        ],
    ),
    (
        "vertex upside down",
        [
            (
                "  vetoed: [tracks, photons]\n",
                "  vetoed: [tracks, photons]\n  vertices: {Zp: {rho: [2 cm, 1 cm], source: assumption}}\n",
            )
        ],
        ["Z:19:19: final_state.vertices.Zp.rho: found the lower end at or above the upper end; write [low, high]"],
    ),
    (
        "background on the grid",
        [
            (
                "    taken_for: {pi+: mu+}\n",
                "    taken_for: {pi+: mu+}\n    lifetimes: {tau+: {polynomial: [0, 1], of: m_Zp, unit: cm, source: assumption}}\n",
            )
        ],
        ["Z:39:3: backgrounds.pions: found a mass, lifetime or law that depends on the grid; a background does not"],
    ),
]


@pytest.mark.parametrize(("edits", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_message(edits: list[tuple[str, str]], expected: list[str], problems: Problems) -> None:
    """Catches a refusal that comes too late, at another place, or without the remedy."""
    assert problems(*edits) == expected


@pytest.mark.parametrize(
    ("law", "remedy"),
    [
        ("photon-vector", "write {law: photon-vector, min_energy: 0.1 GeV, max_cos: 0.95}"),
        ("dark-current", "write {law: dark-current, mediator_mass: 3 GeV}"),
        ("dipole", "write {law: dipole, anisotropy: 1}"),
    ],
)
def test_a_law_with_numbers_says_which(law: str, remedy: str, problems: Problems) -> None:
    """Catches the advice to take another law, where the one that is meant only lacks its numbers."""
    (line,) = problems(("leptons-vector", law))
    assert remedy in line


def test_windows_that_reach_beyond_a_table(problems: Problems) -> None:
    """Catches a search that is called fine, and whose run then ends at the bins of a channel."""
    table = "resolution: {table: {m_Zp: [1 GeV, 5 GeV], value: [100 MeV, 50 MeV]}, source: assumption}"
    assert problems(("resolution: {value: 100 MeV, source: assumption}", table)) == [
        "Z:26:5: channels.recoil.resolution: windows reach further than the grid: m_Zp = 0 GeV lies outside of the table (1 to 5 GeV); add points, or say `outside: nearest`"
    ]


def test_a_vertex_of_a_prompt_decay(problems: Problems) -> None:
    """Catches a volume in which nothing can decay, found only when no event is left."""
    vertex = "  vetoed: [tracks, photons]\n  vertices: {Zp: {rho: [1 cm, 2 cm], source: assumption}}\n"
    (line,) = problems(
        ("  vetoed: [tracks, photons]\n", vertex), (SIGNAL, "process: e+ e- -> mu+ mu- Zp, Zp -> nu nubar")
    )
    assert "Zp decays promptly, at the collision point; give its c tau in `lifetimes` of the sample" in line


@pytest.mark.parametrize("isr", [False, True])
@pytest.mark.parametrize(
    ("text", "law", "masses"),
    [
        ("e+ e- -> mu+ mu- phi, phi -> K+ K-", Law(name="leptons-vector"), {}),
        ("e+ e- -> mu+ mu- J/psi, J/psi -> e+ e-", Law(name="leptons-vector"), {}),
        ("e+ e- -> mu+ mu- Zp", Law(name="leptons-vector"), {"Zp": 3.0}),
        ("e+ e- -> gamma Ap", Law(name="photon-vector", max_cos=0.9, min_energy=0.1), {"Ap": 3.0}),
        ("e+ e- -> gamma Ap", Law(name="photon-vector", max_cos=0.9, min_energy=5.0), {"Ap": 3.0}),
        ("e+ e- -> gamma Ap", Law(name="photon-vector", max_cos=0.9), {"Ap": 3.0}),
        ("e+ e- -> gamma phi", Law(name="photon-vector", max_cos=0.9, min_energy=0.1), {}),
        ("e+ e- -> gamma gamma", Law(name="two-photons", max_cos=0.9), {}),
        ("e+ e- -> gamma gamma", Law(name="two-photons", max_cos=0.9, min_energy=5.2), {}),
        ("e+ e- -> gamma gamma", Law(name="two-photons", max_cos=0.9, min_energy=5.3), {}),
        ("e+ e- -> gamma gamma gamma", Law(name="three-photons", max_cos=0.9, min_energy=3.5), {}),
        ("e+ e- -> gamma gamma gamma", Law(name="three-photons", max_cos=0.9, min_energy=3.6), {}),
        ("e+ e- -> tau+ tau- gamma", Law(name="leptons-photon", max_cos=0.9, min_energy=4.6), {}),
        ("e+ e- -> tau+ tau- gamma", Law(name="leptons-photon", max_cos=0.9, min_energy=4.8), {}),
        ("e+ e- -> mu+ mu- gamma", Law(name="leptons-photon", max_cos=1.0, min_energy=0.1), {}),
        ("e+ e- -> Y(4S), Y(4S) -> B+ B-", Law(name="resonance"), {}),
    ],
)
def test_the_engine_refuses_nothing_that_is_called_fine(
    text: str, law: Law, masses: dict[str, float], isr: bool, specs: Path
) -> None:
    """Second method: the engine itself. Catches a spec that is fine and then refused, and one refused for nothing."""
    from modelbuilder.histograms.simulate import beams_of
    from modelbuilder.kinematics.chain import ChainGenerator

    beams = beams_of(load_experiment(FILES["E"]))
    isr = isr and law.name != "resonance"
    chain = parse_chain(text, masses=masses, laws={"e+ e-": law})
    refusals = []
    for check in (
        lambda: check_law_numbers(chain, sqrt_s=beams.sqrt_s, isr=isr),
        lambda: ChainGenerator(chain, beams, isr=isr),
    ):
        try:
            check()
        except KinematicsError as error:
            refusals.append(str(error))
    assert len(refusals) in (0, 2), refusals


def test_widths_can_be_neglected(specs: Path) -> None:
    """Catches a remedy that no spec can follow, one that changes other particles, and a decay that it makes impossible."""
    narrow = Simulated(process="e+ e- -> mu+ mu- phi, phi -> K+ K-", laws={"e+ e-": "leptons-vector"}, narrow=["phi"])
    chain = chain_of(narrow, {}, sqrt_s=10.58)
    assert chain.nodes[chain.place("phi")].width == 0.0
    check_law_numbers(chain, sqrt_s=10.58, isr=True)
    pair = Simulated(process="e+ e- -> phi K*0 K- pi+", laws={"e+ e-": "phase-space"}, narrow=["phi"])
    chain = chain_of(pair, {}, sqrt_s=10.58)
    assert [node.species for node in chain.nodes if node.width > 0.0] == ["K*0"]
    for process, name, reason in (
        (
            "e+ e- -> mu+ mu- phi, phi -> K+ K-",
            "K+",
            "K+ has no width that could be neglected; particles with one: phi",
        ),
        ("e+ e- -> gamma f(0)(980), f(0)(980) -> K_S0 K_L0", "f(0)(980)", "without widths f(0)(980) has 0.99 GeV"),
    ):
        laws = {"e+ e-": "phase-space"}
        with pytest.raises(KinematicsError, match=re.escape(reason)):
            chain_of(Simulated(process=process, laws=laws, narrow=[name]), {}, sqrt_s=10.58)


STATED = """  smooth:
    title: smooth
    expected: {recoil: {at: [1 GeV, 3 GeV], events: [20, 5], per: 100 MeV, luminosity: 1 fb^-1, source: assumption}}
    shape: {bernstein: 2, source: assumption}
    rate: free
"""


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (("", ""), []),
        (
            ("recoil: {at", "recoyl: {at"),
            [
                "Z:51:5: backgrounds.smooth.expected: missing: recoil; say what is expected in each channel",
                "Z:51:16: backgrounds.smooth.expected.recoyl: found 'recoyl', which is not a channel; did you mean 'recoil'?",
            ],
        ),
        (
            ("per: 100 MeV", "per: 100 MeV^2"),
            [
                "Z:51:62: backgrounds.smooth.expected.recoil.per: found '100 MeV^2': 'MeV^2' is not the unit of an energy; expected for example '0.2 GeV'"
            ],
        ),
        (
            ("per: 100 MeV", "per: 0 MeV"),
            ["Z:51:62: backgrounds.smooth.expected.recoil.per: found '0 MeV'; it must be above 0 GeV"],
        ),
        (
            ("at: [1 GeV, 3 GeV]", "at: [3 GeV, 1 GeV]"),
            [
                "Z:51:25: backgrounds.smooth.expected.recoil.at: found values that do not rise; write them in rising order"
            ],
        ),
        (
            ("events: [20, 5]", "events: [20]"),
            [
                "Z:51:45: backgrounds.smooth.expected.recoil.events: found 1 of events and 2 of at; each point needs one number"
            ],
        ),
        (
            ("events: [20, 5]", "events: [0, 0]"),
            [
                "Z:51:45: backgrounds.smooth.expected.recoil.events: found no event at all; a limit needs a background that is not exactly zero"
            ],
        ),
        (
            ("events: [20, 5]", "events: [20, -5]"),
            ["Z:51:58: backgrounds.smooth.expected.recoil.events[1]: found -5; it must be at least 0"],
        ),
        (
            ("events: [20, 5], ", ""),
            [
                "Z:51:16: backgrounds.smooth.expected.recoil: found neither events nor a table; give `events`, with `at` if there are several, or a table or csv with both"
            ],
        ),
        (
            ("at: [1 GeV, 3 GeV], events: [20, 5]", "table: {at: [1 GeV, 3 GeV], event: [20, 5]}"),
            ["Z:51:25: backgrounds.smooth.expected.recoil.table: found the columns at, event; expected at, events"],
        ),
        (
            ("at: [1 GeV, 3 GeV], events: [20, 5]", "table: {at: [3 GeV, 1 GeV], events: [20, 5]}"),
            [
                "Z:51:33: backgrounds.smooth.expected.recoil.table.at: found values that do not rise; write them in rising order"
            ],
        ),
        (
            ("at: [1 GeV, 3 GeV], events: [20, 5]", "table: {at: [1 GeV, 3 GeV], events: [20, x]}"),
            [
                "Z:51:66: backgrounds.smooth.expected.recoil.table.events[1]: found 'x'; expected a number without unit, such as '0.85, or 85 %'"
            ],
        ),
        (
            ("    rate: free", "    rate: free\n    efficiency: 0.5"),
            ["Z:54:5: backgrounds.smooth.efficiency: found 0.5; expected a mapping of keys to values"],
        ),
        (
            ("    rate: free", "    rate: fixed"),
            ["Z:53:5: backgrounds.smooth.rate: a Bernstein shape has free coefficients; write `rate: free`"],
        ),
        (
            ("    rate: free", "    rate: free\n    process: e+ e- -> mu+ mu-"),
            [
                "Z:54:5: backgrounds.smooth.process: found process and expected; a background is either simulated or stated, remove one of them"
            ],
        ),
    ],
)
def test_stated_backgrounds(problems: Problems, edit: tuple[str, str], expected: list[str]) -> None:
    """Catches an expectation that is in another unit than the observable, or for another channel."""
    text = STATED.replace(*edit, 1) if edit[0] else STATED
    assert problems(("systematics:\n", f"{text}systematics:\n")) == expected


def test_a_stated_background_has_no_simulated_shape(problems: Problems) -> None:
    """Catches a spurious signal that is looked for in a line between points."""
    choice = "systematics:\n  choice: {kind: spurious-signal, of: smooth, source: assumption}\n"
    assert problems(("systematics:\n", f"{STATED}{choice}")) == [
        "Z:55:35: systematics.choice.of: nothing of 'smooth' is simulated, so there is no shape in which to look for a signal"
    ]


def test_laws_of_the_language_are_those_of_the_engine() -> None:
    """Catches a law that the engine knows and a spec cannot name, and the reverse."""
    named = {*get_args(PlainLaw), *get_args(PhotonLaw.model_fields["law"].annotation), "dipole", "dark-current"}
    assert named == set(LAWS)
    assert {model.law for model in MODELS.values()} <= {*LAWS, None}
    assert set(WITH_CROSS_SECTION) <= set(LAWS)


def test_hypotheses() -> None:
    """By hand: catches known particles under their other names, and `invisible`, taken for hypotheses."""
    assert hypotheses("e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> chi chi, chi -> invisible") == ["S", "chi"]
    assert hypotheses("e+ e- -> gamma eta_prime, eta_prime -> gamma gamma") == []


def test_the_law_of_a_model_is_the_default(specs: Path) -> None:
    """Catches a law of the spec that a model overrides, and a model whose law is not used."""
    signal = load_search(specs).spec.signal
    for laws, name in (({}, "photon-pseudoscalar"), ({"e+ e-": "phase-space"}, "phase-space")):
        chain = chain_of(
            signal.model_copy(update={"laws": laws}), {"m_a": 1.0}, sqrt_s=10.58, law="photon-pseudoscalar"
        )
        assert chain.vertices[0].law.name == name


def test_masses_and_lifetimes_follow_the_grid(specs: Path) -> None:
    """Catches a mass or a lifetime that stays where it was while the grid moves."""
    text = Path(SEARCH).read_text(encoding="utf-8")
    text = text.replace(
        "Zp -> invisible\n", "Zp -> chi psi, psi -> chi mu+ mu-\n", 1
    ).replace(
        LAW,
        LAW + "  masses: {chi: {polynomial: [0, 0.25], of: m_Zp, unit: GeV, source: assumption},"
        " psi: {polynomial: [0, 0.5], of: m_Zp, unit: GeV, source: assumption}}\n"
        "  lifetimes: {psi: {table: {m_Zp: [1 GeV, 5 GeV], value: [1 mm, 5 mm]}, source: assumption}}\n",
        1,
    )  # fmt: skip
    Path(SEARCH).write_text(text.replace("found: [mu+, mu-]", "found: [mu+, mu-]"), encoding="utf-8")
    signal = load_search(SEARCH).spec.signal
    for mass in (2.0, 4.0):
        chain = chain_of(signal, {"m_Zp": mass}, sqrt_s=10.58)
        by_name = {node.name: node for node in chain.nodes}
        assert by_name["chi"].mass == pytest.approx(0.25 * mass)
        assert by_name["psi"].mass == pytest.approx(0.5 * mass)
        assert by_name["psi"].ctau == pytest.approx(0.1 * mass)
        assert chain.mass_range(chain.place("psi"))[1] == pytest.approx(0.5 * mass)


def test_candidates() -> None:
    """By hand: which particles are looked for and which must not be there, for each way to find the final state."""
    chain = parse_chain(
        "e+ e- -> gamma a, a -> gamma gamma", masses={"a": 1.0}, laws={"e+ e-": Law(name="photon-pseudoscalar")}
    )
    places = [chain.place(name) for name in ("gamma", "gamma[2]", "gamma[3]")]
    (everything,) = candidates_of(chain, None, {})
    assert everything.seen == tuple((place, "gamma") for place in places)
    assert everything.vetoed == ()
    two = candidates_of(chain, FinalState(found=["gamma", "gamma"], vetoed=["photons"]), {})
    assert [[place for place, _ in one.seen] for one in two] == [places[:2], [places[0], places[2]], places[1:]]
    assert [one.vetoed for one in two] == [(places[2],), (places[1],), (places[0],)]
    free = candidates_of(chain, FinalState(found=["gamma"]), {})
    assert [one.vetoed for one in free] == [(), (), ()]


def test_tracks_are_taken_for_others() -> None:
    """Catches a veto on tracks that forgets those of another kind, and a name that stays what it was."""
    chain = parse_chain("e+ e- -> K+ K- pi+ pi-", laws={"e+ e-": Law(name="phase-space")})
    taken_for = {"K+": "pi+"}
    assert seen_kinds(chain, taken_for) == {"K+": "pion"}
    candidates = candidates_of(chain, FinalState(found=["pi+", "pi-"], vetoed=["tracks"]), taken_for)
    assert [[chain.nodes[place].name for place, _ in one.seen] for one in candidates] == [["K+", "pi-"], ["pi+", "pi-"]]
    assert [[chain.nodes[place].name for place in one.vetoed] for one in candidates] == [["K-", "pi+"], ["K+", "K-"]]


def test_cut_bounds_are_in_the_unit_of_the_observable() -> None:
    """By hand: catches degrees for radians, MeV for GeV, and a bound on the wrong side."""
    cut = Cut.model_validate({"quantity": "theta(gamma)", "between": ["90 deg", "180 deg"], "source": "assumption"})
    assert cut.bounds == pytest.approx((0.5 * math.pi, math.pi))
    cut = Cut.model_validate({"quantity": "recoil2(gamma)", "below": "1000 MeV^2", "source": "assumption"})
    assert cut.bounds == pytest.approx((-math.inf, 1e-3))
    cut = Cut.model_validate({"quantity": "flight_distance_xy(S)", "above": "2 mm", "source": "assumption"})
    assert cut.bounds == pytest.approx((0.2, math.inf))
    cut = Cut.model_validate({"quantity": "mass(mu+ mu-) / sqrt_s", "above": "90 %", "source": "assumption"})
    assert cut.bounds == pytest.approx((0.9, math.inf))


def test_every_variation_is_one_of_the_detector(specs: Path) -> None:
    """Catches a variation of the language that the detector does not know, or that changes nothing."""
    from modelbuilder.kinematics.measure import EfficiencyTable, detector_of, varied_detector

    detector = detector_of(load_search(SEARCH).spec.experiment)
    table = EfficiencyTable(first_edges=(0.0, 9.0), second_edges=(0.0, 3.0), values=((0.9,),), uncertainties=((0.05,),))
    pion = tuple((true, seen, table) for true, seen in (("pion", "pion"), ("pion", "muon")))
    detector = replace(
        detector,
        photons=replace(detector.photons, efficiency=table),
        tracks=replace(detector.tracks, efficiency=table, identification=pion),
    )
    for vary in get_args(Varied):
        assert varied_detector(detector, vary, 0.1 if "efficiency" not in vary else -0.1) != detector, vary


def test_a_vector_is_named() -> None:
    """Catches a vector that is written in a spec and does not reach the law."""
    sample = Simulated.model_validate(
        {
            "process": "e+ e- -> hp Ap, Ap -> invisible, hp -> mu+ mu-",
            "laws": {"e+ e-": {"law": "vector-scalar", "vector": "Ap"}},
            "masses": {"Ap": {"value": "3 GeV", "source": "assumption"}},
        }
    )
    chain = chain_of(sample, {"m_hp": 1.0}, sqrt_s=10.58)
    assert [chain.nodes[child].name for child in chain.vertices[0].children] == ["Ap", "hp"]
