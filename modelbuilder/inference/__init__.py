"""Fits, limits and significances of HistFactory workspaces.

    likelihood.py        what a likelihood must offer           pyhf_likelihood.py  the one that pyhf computes
    flatten.py           a workspace as flat arrays         compiled_likelihood.py  the one that is compiled
    asymptotic.py        limits and significances from it       diagnostics.py      uncertainties, pulls, predictions
    compiled_limits.py   the same limits, compiled          results.py          what they hand back
    profiles.py          -2 ln L along any parameter        goodness.py         against the saturated model
    impacts.py           of nuisance parameters on the POI

Importing this package loads neither pyhf nor scipy nor matplotlib.
"""

from __future__ import annotations

from modelbuilder.inference.asymptotic import AsymptoticCalculator, discovery, upper_limit
from modelbuilder.inference.compiled_likelihood import CompiledLikelihood
from modelbuilder.inference.compiled_limits import compiled_upper_limit, compiled_upper_limits
from modelbuilder.inference.likelihood import Likelihood, Parameter
from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood
from modelbuilder.inference.results import Discovery, FitResult, HypothesisTest, LimitMethod, UpperLimit

__all__ = [
    "AsymptoticCalculator",
    "CompiledLikelihood",
    "Discovery",
    "FitResult",
    "HypothesisTest",
    "Likelihood",
    "LimitMethod",
    "Parameter",
    "PyhfLikelihood",
    "UpperLimit",
    "compiled_upper_limit",
    "compiled_upper_limits",
    "discovery",
    "upper_limit",
]
