"""The whole search against the paper."""

from __future__ import annotations

from pathlib import Path

from modelbuilder.scan.run import run_search
from modelbuilder.scan.store import load_run
from modelbuilder.spec.load import load_search

from .conftest import SPEC

PUBLISHED = {0.3: 9e-4, 1.0: 1.3e-3, 3.0: 2.3e-3, 5.0: 3.1e-3, 7.0: 6e-3, 9.0: 1.5e-2}
"""GeV: GeV^-1. The expected limit on g_agammagamma of arXiv:2007.13071, as far as it is known to us: a rough level."""


def test_expected_limits_are_at_the_published_level(tmp_path: Path) -> None:
    """Reference: catches physics that is missing or counted twice, with all the events of the spec: within a factor 2."""
    masses = ", ".join(f"{mass:g} GeV" for mass in PUBLISHED)
    search = load_search(SPEC, overrides=[f"grid.m_a.segments=[{{values: [{masses}], source: assumption}}]"])
    assert search.spec.signal.events == 200_000
    run_search(search, tmp_path / "out", jobs=2)
    _, rows = load_run(tmp_path / "out")
    assert search.spec.statistics.methods[0] == "profile-likelihood"  # that of the paper
    found = {
        row["m_a_gev"]: row["g_agammagamma_per_gev_expected"] for row in rows if row["method"] == "profile-likelihood"
    }
    assert set(found) == set(PUBLISHED)
    for mass, published in PUBLISHED.items():
        assert 0.5 < found[mass] / published < 2.0, f"{mass} GeV: {found[mass]:.2g}, published {published:.2g}"
