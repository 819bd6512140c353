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

HBAR = 6.582119569e-25
"""GeV s, CODATA 2018."""

FERMI = 1.1663788e-5
"""G_F in GeV^-2, PDG, recalled."""

W_MASS = 80.37
"""GeV, PDG, recalled."""

TAU_LIFETIME = 290.3e-15
"""s, PDG, recalled."""

SIN2_EFFECTIVE = 0.2312
"""sin^2 theta_W of the couplings of Z to leptons, PDG, recalled."""

SIN2_ON_SHELL = 0.2229
"""1 - m_W^2/m_Z^2, CODATA 2018, recalled: that of the coupling of an ALP to W and B before they mix."""
