"""The models that a spec can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from modelbuilder.theory import alp_photon, z_prime
from modelbuilder.theory.model import Excluded, Model, Parameter, Parameters

__all__ = ["MODELS", "Excluded", "Model", "Parameter", "Parameters"]

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "alp-photon": alp_photon.PROMPT,
        "l-mu-l-tau": z_prime.L_MU_L_TAU,
    }
)
