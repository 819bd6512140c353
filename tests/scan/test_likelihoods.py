"""Which likelihood limits are found with: the compiled one, with the numbers of the other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelbuilder.errors import WorkspaceError
from modelbuilder.inference import AsymptoticCalculator, CompiledLikelihood, PyhfLikelihood
from modelbuilder.scan.run import run_search
from modelbuilder.scan.target import Target, limit_of
from modelbuilder.spec.load import LoadedSearch

Tiny = Callable[..., LoadedSearch]


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
    found = limit_of(Target(name=None, values=(), workspace=counting()), method="cls", confidence_level=0.9)
    assert found["status"] == "ok"
    assert found["warnings"] == []
    assert 10 <= found["fits"] < found["evaluations"] < 200


def test_what_cannot_be_compiled_is_fitted_with_pyhf_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a fallback that is silent, or missing."""
    target = Target(name=None, values=(), workspace=counting())
    compiled = limit_of(target, method="cls", confidence_level=0.9)

    def refuse(*arguments: object, **options: object) -> None:
        message = "workspace: no kernel for this"
        raise WorkspaceError(message)

    monkeypatch.setattr(CompiledLikelihood, "__init__", refuse)
    fallback = limit_of(target, method="cls", confidence_level=0.9)
    assert fallback["warnings"] == ["not compiled, but fitted with pyhf, which is slow: workspace: no kernel for this"]
    assert fallback["observed"] == pytest.approx(compiled["observed"], rel=1e-6)
    assert fallback["expected"] == pytest.approx(compiled["expected"], rel=1e-6)
    assert set(fallback) == set(compiled)
