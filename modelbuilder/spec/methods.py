"""How limits can be found: the words of specs, of the command line and of the inference stage. Imports nothing heavy."""

from __future__ import annotations

from typing import Literal

Method = Literal["profile-likelihood", "cls", "feldman-cousins", "bayesian"]
Prior = Literal["flat", "inverse-sqrt"]
