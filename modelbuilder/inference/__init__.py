"""Fits, limits and significances of HistFactory workspaces.

    likelihood.py        what a likelihood must offer           pyhf_likelihood.py  the one that pyhf computes
    asymptotic.py        limits and significances from it       diagnostics.py      uncertainties, pulls, predictions
    results.py           what they hand back

Importing this package loads neither pyhf nor scipy nor matplotlib.
"""

from __future__ import annotations

from modelbuilder.inference.asymptotic import AsymptoticCalculator, discovery, upper_limit
from modelbuilder.inference.likelihood import Likelihood, Parameter
from modelbuilder.inference.pyhf_likelihood import PyhfLikelihood
from modelbuilder.inference.results import Discovery, FitResult, HypothesisTest, LimitMethod, UpperLimit

__all__ = [
    "AsymptoticCalculator",
    "Discovery",
    "FitResult",
    "HypothesisTest",
    "Likelihood",
    "LimitMethod",
    "Parameter",
    "PyhfLikelihood",
    "UpperLimit",
    "discovery",
    "upper_limit",
]
