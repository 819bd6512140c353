"""The models that a search names for its limits: what is read, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from modelbuilder.spec.interpretations import TAKEN, UNIT_SUFFIXES, default_law, faults_of_names
from modelbuilder.spec.load import load_search
from modelbuilder.spec.schema import schemas
from modelbuilder.theory.models import MODELS

from .conftest import ALP, Edit

Problems = Callable[[], list[str]]
OLD = "interpretations: {g_agammagamma_per_gev: {model: alp-photon}}"
Z_PRIME = "model: l-mu-l-tau"


def test_parameters_come_in_the_units_of_the_package_with_the_defaults(specs: Path, edit: Edit) -> None:
    """By hand: catches a parameter that is lost or not converted, and a default that hides what was written."""
    edit(
        "A",
        OLD,
        f"interpretations: {{g_per_gev: {{model: alp-photon}}, gprime: {{{Z_PRIME}, decay: muons}}, all: {{{Z_PRIME}, decay: invisible, invisible_only: yes}}}}",
    )
    found = load_search(specs).spec.interpretations
    assert {name: one.parameters for name, one in found.items()} == {
        "g_per_gev": {},
        "gprime": {"decay": "muons", "invisible_only": "no"},
        "all": {"decay": "invisible", "invisible_only": "yes"},
    }
    assert found["gprime"].text == "l-mu-l-tau (decay muons, invisible_only no)"
    assert found["gprime"].theory is MODELS["l-mu-l-tau"]
    assert found["gprime"].masses_at({"m_Zp": 2.0}) == (2.0,)
    assert default_law(found) == "photon-pseudoscalar"


@pytest.mark.parametrize("text", ["", "interpretations: {}"])
def test_without_models_there_is_no_law(text: str, specs: Path, edit: Edit, problems: Problems) -> None:
    """Catches a search that needs a model: without one it names the law of a production that has none by itself."""
    edit("A", OLD, text)
    (problem,) = problems()
    assert "name the law of e+ e-: 'photon-pseudoscalar'" in problem
    edit(
        "A",
        "  process: e+ e- -> gamma a, a -> gamma gamma\n",
        "  process: e+ e- -> gamma a, a -> gamma gamma\n  laws: {e+ e-: photon-pseudoscalar}\n",
    )
    assert problems() == []
    assert load_search(specs).spec.interpretations == {}
    assert default_law({}) is None


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (
            "g_agammagamma: {model: alp-photon}",
            "A:15:19: interpretations.g_agammagamma: the coupling of alp-photon has the unit GeV^-1, so the name ends in '_per_gev', as in 'g_agammagamma_per_gev'",
        ),
        (
            f"gprime_per_gev: {{{Z_PRIME}, decay: muons}}",
            "A:15:19: interpretations.gprime_per_gev: the coupling of l-mu-l-tau is a number; leave out '_per_gev'",
        ),
        (
            f"mu: {{{Z_PRIME}, decay: muons}}",
            "A:15:19: interpretations.mu: every search has limits on mu; choose another name",
        ),
        (
            "g_per_gev: {model: alp-foton}",
            "A:15:31: interpretations.g_per_gev.model: found 'alp-foton', which is not a model; did you mean 'alp-photon'?",
        ),
        ("g_per_gev: {source: assumption}", "A:15:19: interpretations.g_per_gev.model: missing; expected cross section, times branching fraction, as a function of mass and coupling"),
        ("g_per_gev: 5", "A:15:19: interpretations.g_per_gev: found 5; expected a mapping of keys to values"),
        (
            "g_per_gev: {model: alp-photon, decay: muons}",
            "A:15:50: interpretations.g_per_gev.decay: the model has no parameters",
        ),
        (
            f"gprime: {{{Z_PRIME}, decay: electrons}}",
            "A:15:47: interpretations.gprime.decay: found 'electrons'; write one of invisible, muons, taus",
        ),
        (
            f"gprime: {{{Z_PRIME}}}",
            "A:15:19: interpretations.gprime: the model needs decay (decay that is searched for): write one of invisible, muons, taus",
        ),
        (
            f"gprime: {{{Z_PRIME}, decay: muons, source: paper}}",
            "A:15:61: interpretations.gprime.source: found 'paper'; a source begins with one of read, review, derived, recalled, assumption, then ': ' and the reference",
        ),
    ],
    ids=["unit missing", "unit too many", "taken", "unknown", "no model", "no mapping", "no parameters", "choice", "parameter missing", "source"],
)  # fmt: skip
def test_what_is_refused(entry: str, expected: str, edit: Edit, problems: Problems) -> None:
    """Catches a message or a place that changes, a parameter that is ignored, and a column without its unit."""
    edit("A", OLD, f"interpretations: {{{entry}}}")
    assert expected in problems()


def test_a_law_that_does_not_fit_says_where_it_comes_from(edit: Edit, problems: Problems) -> None:
    """Catches a law that nobody has written, and a message that does not say so."""
    edit("A", OLD, f"interpretations: {{gprime: {{{Z_PRIME}, decay: muons}}}}")
    (problem,) = problems()
    assert problem.startswith("A:17:3: signal.process: at m_a = 0.2 GeV: ")
    assert problem.endswith(
        "the law 'leptons-vector' needs 3 particles, but e+ e- goes to 2; it is the law of the first of `interpretations`, `laws` of the signal may name another"
    )


DARK_PHOTON = "interpretations: {epsilon: {model: dark-photon-invisible, max_cos: 0.8, source: assumption}}"
WITH_LAW = f"""{DARK_PHOTON}
signal:
  laws: {{e+ e-: {{law: photon-vector, min_energy: 0.5 GeV, max_cos: 0.95}}}}
"""
DARK_HIGGS = (
    "epsilon: 1e-3, alpha_d: 0.1, m_dark_photon: 3 GeV, m_chi1: 1 GeV, splitting: 0.4 GeV, final: muons,"
    " chi2_lifetime: 2 cm, chi2_reach: 50 cm, source: assumption"
)
NOT_FITTING = {
    "law with cuts": (
        OLD,
        DARK_PHOTON,
        "A:17:3: signal.process: at m_a = 0.2 GeV: e+ e- -> gamma a, a -> gamma gamma: the cross section of the law 'photon-vector' has no bound without max_cos of the photons in the e+e- frame; give them with the law of e+ e-; it is the law of the first of `interpretations`, `laws` of the signal may name another",
    ),
    "another max_cos": (
        f"{OLD}\nsignal:\n",
        WITH_LAW,
        "A:15:59: interpretations.epsilon.max_cos: found 0.8, but the signal is simulated, and its limit found, within max_cos 0.95; give the same number as in signal.laws",
    ),
    "masses": (
        OLD,
        "interpretations: {x: {model: dark-higgsstrahlung, decay: three-pairs}}",
        "A:15:23: interpretations.x.model: dark-higgsstrahlung needs m_Ap and m_hp in the grid, which has m_a",
    ),
    "a branching fraction": (
        OLD,
        "interpretations: {g_per_gev: {model: alp-w, decay: B+ -> K+}}",
        "A:15:31: interpretations.g_per_gev.model: alp-w needs a limit on a branching fraction; that of this search is on a cross section",
    ),
    "a coupling that is known by the lifetime": (
        OLD,
        f"interpretations: {{theta: {{model: inelastic-dark-higgs, {DARK_HIGGS}}}}}",
        "A:15:27: interpretations.theta.model: sin_theta of inelastic-dark-higgs only says how far a particle flies; it needs a search at several lifetimes, `signal.lifetime`",
    ),
    "number without source": (
        OLD,
        "interpretations: {epsilon: {model: dark-photon-invisible, max_cos: 0.8}}",
        "A:15:19: interpretations.epsilon.source: missing; a number needs a source",
    ),
}


@pytest.mark.parametrize("case", NOT_FITTING)
def test_what_does_not_fit_the_search(case: str, edit: Edit, problems: Problems) -> None:
    """Catches a cross section within other angles than that of the limit, and a model whose masses are not scanned."""
    old, new, expected = NOT_FITTING[case]
    edit("A", old, new)
    assert expected in problems()


def test_every_model_has_a_name_that_is_allowed() -> None:
    """Catches a unit of a coupling that no column can end in, and a coupling with the name of another column."""
    for model in MODELS.values():
        assert model.unit == "" or model.coupling.endswith(UNIT_SUFFIXES[model.unit])
        assert model.coupling not in TAKEN


def test_editors_know_models_and_parameters() -> None:
    """Catches a model that validates and that an editor does not offer, and parameters that it marks as unknown."""
    found = schemas()["search.schema.json"]["definitions"]["Interpretation"]
    assert found["properties"]["model"]["enum"] == list(MODELS)
    names = {name for model in MODELS.values() for name in model.parameters}
    assert set(found["properties"]) == {"model", "source", *names}
    assert found["additionalProperties"] is False


def test_names_that_are_fine(specs: Path) -> None:
    """Catches a fault found where there is none."""
    assert faults_of_names(load_search(specs).spec.interpretations) == []
    assert ALP in str(specs)
