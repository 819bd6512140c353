"""A search that is fast: nothing of its background is simulated."""

from __future__ import annotations

from pathlib import Path

import pytest

EXPERIMENT = Path(__file__).parents[2] / "specs" / "experiments" / "belle2.yaml"

SMALL = """\
schema: search/1
name: small
title: "B+ -> K+ a"
experiment: belle2.yaml
luminosity: {value: 400 fb^-1, uncertainty: 1 %, source: assumption}
radiation: {initial_state: none, source: assumption}
seed: 1
signal:
  process: e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ a, a -> gamma gamma
  events: 2000
  efficiency: {value: 0.5, source: assumption}
grid:
  m_a:
    segments:
      - {values: [1 GeV, 2 GeV, 3 GeV], source: assumption}
final_state: {found: [K+, gamma, gamma]}
selection:
  - {quantity: mbc(B+), above: 5.27 GeV, source: assumption}
channels:
  diphoton:
    observable: mass(gamma gamma)
    resolution: {value: 25 MeV, source: assumption}
    window: 20 resolution
    bin_width: 0.5 resolution
    source: assumption
backgrounds:
  combinatorial:
    title: combinatorial
    expected:
      diphoton:
        at: [0.5 GeV, 2 GeV, 4 GeV]
        events: [20, 40, 10]
        per: 50 MeV
        luminosity: 200 fb^-1
        source: assumption
    shape: {bernstein: 2, source: assumption}
    rate: free
systematics:
  lumi: {kind: luminosity}
  efficiency: {kind: rate, size: 10 %, on: [signal], source: assumption}
statistics: {methods: [cls], confidence_level: 90 %, source: assumption}
data: {kind: asimov}
"""

# The window of 500 MeV around 2 GeV: 80 events per 50 MeV there and 40 fb^-1, falling by slopes of the table.
TESTS = """\
tests:
  - {quantity: yield(combinatorial), at: {m_a: 2 GeV}, between: [700, 800], why: the table was read wrongly}
  - {quantity: expected(cross_section_fb), at: {m_a: [1 GeV, 3 GeV]}, above: 0}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A folder with the spec `small.yaml`, two tests in it, and its experiment."""
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "belle2.yaml").write_text(EXPERIMENT.read_text())
    path = tmp_path / "specs" / "small.yaml"
    path.write_text(SMALL + TESTS)
    return path
