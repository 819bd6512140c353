"""Constants that several models share."""

from __future__ import annotations

ALPHA = 1.0 / 137.036
"""Fine-structure constant at zero momentum transfer. Generators that use 1/127.9 give larger cross sections."""

HBARC_SQUARED = 3.893793721e11
"""(hbar c)^2 in fb GeV^2, CODATA 2018."""

HBARC = 1.973269804e-14
"""hbar c in GeV cm, CODATA 2018."""
