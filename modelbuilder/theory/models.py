"""The models that a spec can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from modelbuilder.theory import alp_photon, dark_higgs, dark_photon, darkonium, leptophilic_scalar, z_prime
from modelbuilder.theory.model import Excluded, Model, Parameter, Parameters

__all__ = ["MODELS", "Excluded", "Model", "Parameter", "Parameters"]

MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "alp-photon": alp_photon.PROMPT,
        "alp-photon-invisible": alp_photon.INVISIBLE,
        "alp-photon-escaping": alp_photon.ESCAPING,
        "alp-leptons": leptophilic_scalar.ALP,
        "dark-photon-invisible": dark_photon.INVISIBLE,
        "dark-photon-dark-matter": dark_photon.DARK_MATTER,
        "dark-photon-visible": dark_photon.VISIBLE,
        "dark-higgsstrahlung": dark_higgs.HIGGSSTRAHLUNG,
        "darkonium": darkonium.DARKONIUM,
        "l-mu-l-tau": z_prime.L_MU_L_TAU,
        "leptophilic-scalar": leptophilic_scalar.LEPTOPHILIC,
        "muonphilic-scalar": leptophilic_scalar.MUONPHILIC,
    }
)
