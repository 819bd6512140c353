"""Constants that several models share."""

from __future__ import annotations

ALPHA = 1.0 / 137.035999084
"""Fine-structure constant at zero momentum transfer, CODATA 2018. Generators that use 1/127.9 give larger cross sections."""

HBARC_SQUARED = 3.893793721e11
"""(hbar c)^2 in fb GeV^2, CODATA 2018."""

HBARC = 1.973269804e-14
"""hbar c in GeV cm, CODATA 2018."""

ELECTRON_MASS = 0.51099895e-3
"""GeV, PDG 2024."""

MUON_MASS = 0.1056583755
"""GeV, PDG 2024."""

TAU_MASS = 1.77693
"""GeV, PDG 2024."""

HIGGS_VACUUM_VALUE = 246.22
"""v in GeV: the vacuum expectation value to which Yukawa couplings m/v refer."""
