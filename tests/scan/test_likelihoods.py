"""Which likelihood limits are found with: the compiled one, with the numbers of the other."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.errors import WorkspaceError
from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood, PyhfLikelihood, compiled_upper_limit
from modelbuilder.inference.bayesian import bayesian_upper_limit
from modelbuilder.inference.choice import LimitRequest, find_limit
from modelbuilder.scan.run import run_search
from modelbuilder.scan.target import Target, limit_of, limits_at
from modelbuilder.spec.load import LoadedSearch

Tiny = Callable[..., LoadedSearch]
CLS = LimitRequest(method="cls", confidence_level=0.9)


def counting() -> dict[str, Any]:
    signal = {"name": "signal", "data": [5.0], "modifiers": [{"name": "mu", "type": "normfactor", "data": None}]}
    rate = {"name": "rate", "type": "normsys", "data": {"hi": 1.1, "lo": 0.9}}
    return {
        "version": "1.0.0",
        "channels": [{"name": "SR", "samples": [signal, {"name": "qcd", "data": [50.0], "modifiers": [rate]}]}],
        "observations": [{"name": "SR", "data": [52.0]}],
        "measurements": [{"name": "m", "config": {"poi": "mu", "parameters": []}}],
    }


def test_a_scan_has_the_limits_of_pyhf(tmp_path: Path, tiny: Tiny) -> None:
    """Reference: catches a scan whose compiled likelihood is not that of its workspaces."""
    path = tmp_path / "out"
    run_search(tiny(), path, points=4, jobs=1)
    compared = 0
    for line in (path / "points.jsonl").read_text().splitlines():
        for row in json.loads(line)["rows"]:
            workspace = json.loads((path / "workspaces" / f"{row['point']}.json").read_text())
            calculator = AsymptoticCalculator(PyhfLikelihood(workspace))
            limit = calculator.upper_limit(method=row["method"], confidence_level=row["confidence_level"])
            ours = [row[f"mu_{name}"] for name in ("observed", "expected_m2", "expected", "expected_p2")]
            theirs = [limit.observed, limit.expected[0], limit.expected[2], limit.expected[4]]
            assert ours == pytest.approx(theirs, rel=1e-6)
            assert row["local_significance"] == pytest.approx(calculator.discovery().significance, rel=1e-6, abs=1e-6)
            assert row["warnings"] == "; ".join(limit.warnings)
            compared += 1
    assert compared == 8


def test_a_limit_counts_the_work_of_both_questions() -> None:
    """Catches counters that leave out the compiled part, or the p-value."""
    found = limit_of(Target(name=None, values=(), workspace=counting()), CLS)
    assert found["status"] == "ok"
    assert found["warnings"] == []
    assert 10 <= found["fits"] < found["evaluations"] < 200


def test_what_cannot_be_compiled_is_fitted_with_pyhf_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a fallback that is silent, or missing."""
    target = Target(name=None, values=(), workspace=counting())
    compiled = limit_of(target, CLS)

    def refuse(*arguments: object, **options: object) -> None:
        message = "workspace: no kernel for this"
        raise WorkspaceError(message)

    def refuse_all(workspaces: Sequence[object], patches: object = None) -> list[WorkspaceError]:
        return [WorkspaceError()] * len(workspaces)

    monkeypatch.setattr(CompiledLikelihood, "__init__", refuse)
    monkeypatch.setattr(CompiledLikelihood, "many", refuse_all)
    fallback = limit_of(target, CLS)
    assert fallback["warnings"] == ["not compiled, but fitted with pyhf, which is slow: workspace: no kernel for this"]
    assert fallback["observed"] == pytest.approx(compiled["observed"], rel=1e-6)
    assert fallback["expected"] == pytest.approx(compiled["expected"], rel=1e-6)
    assert set(fallback) == set(compiled)


def test_limits_do_not_depend_on_the_threads() -> None:
    """Catches results in the order of their end, or a target that is lost or taken twice; with a fallback among them."""
    targets = []
    for number in range(9):
        workspace = counting()
        workspace["observations"][0]["data"] = [40.0 + 3.0 * number]
        targets.append(Target(name=f"m_{number}", values=(float(number),), workspace=workspace))
    alone = [limit_of(target, CLS) for target in targets]
    assert [found["patch"] for found in alone] == [f"m_{number}" for number in range(9)]
    for jobs in (1, 3):
        assert list(limits_at(iter(targets), CLS, jobs=jobs)) == alone
    assert list(limits_at([targets[4]], CLS, jobs=3)) == [alone[4]]
    assert list(limits_at([], CLS, jobs=2)) == []


METHODS = "statistics.methods=[cls, bayesian, feldman-cousins]"


def test_a_scan_by_every_method(tmp_path: Path, tiny: Tiny) -> None:
    """Reference: catches a row that is not what its method says on the workspace of the point, or a band from nowhere.

    With data equal to the expectation the flat prior and CLs have similar limits; the one of Feldman and Cousins is, in
    the Gaussian limit, 1.96 sigma at 95 % (their table X), as that of a one-sided test at 97.5 %.
    """
    path = tmp_path / "out"
    search = tiny(METHODS, "statistics.toys={number: 4000, use: where-doubtful}", "data={kind: asimov}")
    run_search(search, path, points=2, jobs=1)
    rows = [row for line in (path / "points.jsonl").read_text().splitlines() for row in json.loads(line)["rows"]]
    assert [row["method"] for row in rows] == ["cls", "bayesian", "feldman-cousins"] * 2
    assert {row["status"] for row in rows} == {"ok"}
    for cls, bayesian, feldman_cousins in (rows[:3], rows[3:]):
        likelihood = CompiledLikelihood(json.loads((path / "workspaces" / f"{cls['point']}.json").read_text()))
        flat = bayesian_upper_limit(likelihood, confidence_level=0.95, seed=7)
        assert bayesian["mu_observed"] == pytest.approx(flat.observed, rel=5.0 * flat.relative_error + 1e-9)
        assert bayesian["mu_observed"] == pytest.approx(cls["mu_observed"], rel=0.25)
        assert feldman_cousins["toys"] == 4000
        assert "mu_expected" not in feldman_cousins
    one_sided = compiled_upper_limit(likelihood, method="profile-likelihood", confidence_level=0.975)
    assert rows[-1]["mu_observed"] == pytest.approx(one_sided.observed, rel=0.1)
    assert [row.get("toys") for row in (rows[0], rows[3])] == [4000, None]  # few events at low mass only


def test_toys_where_asymptotic_formulas_are_doubtful() -> None:
    """Catches toys that are thrown where nobody needs them, or not where they are needed."""
    rare, frequent = counting(), counting()
    rare["channels"][0]["samples"][1]["data"] = [0.5]
    rare["observations"][0]["data"] = [0.0]
    request = LimitRequest(method="cls", confidence_level=0.9, toys=2000, only_where_doubtful=True)
    with_toys, without = (find_limit(CompiledLikelihood(workspace), request) for workspace in (rare, frequent))
    assert with_toys.details["toys"] == 2000
    # nothing seen: the limit on the signal is ln 10 events, whatever the background
    assert with_toys.observed * 5.0 == pytest.approx(2.3026, rel=0.1)
    assert without.details == {}
