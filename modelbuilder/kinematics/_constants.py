"""Constants that kernels compile in; a test compares them with those of `theory.constants`."""

ALPHA = 1.0 / 137.035999084  # CODATA 2018
HBARC2 = 3.893793721e11  # (hbar c)^2, fb GeV^2
ELECTRON_MASS = 0.51099895e-3  # GeV, CODATA 2018
