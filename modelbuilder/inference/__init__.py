"""Fits, limits and significances of HistFactory workspaces.

    likelihood            what a likelihood must offer
    flatten               a workspace as flat arrays
    compiled_likelihood   the one that is compiled              pyhf_likelihood       the one that pyhf computes
    asymptotic            limits and p-values from formulas     compiled_limits       the same limits, compiled
    toys                  the same with toys                    feldman_cousins       intervals by toys
    bayesian              limits from posteriors                posterior*            their integrals
    counting              the same of counts with uncertain rates
    scan_significance     global significance of a scan         choice                a limit by any method
    diagnostics           uncertainties, pulls, predictions     goodness, profiles, impacts
    pyhf_optimizer        pyhf with our fits                    results               what is handed back

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
