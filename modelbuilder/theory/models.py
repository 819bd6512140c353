"""The models that a spec can name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from modelbuilder.theory import (
    alp_fermion,
    alp_photon,
    alp_w,
    dark_higgs,
    dark_photon,
    dark_scalar,
    darkonium,
    heavy_neutral_lepton,
    inelastic_dark_matter,
    leptophilic_scalar,
    tau_alp,
    z_prime,
)
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
        "alp-w": alp_w.TO_PHOTONS,
        "alp-fermion": alp_fermion.ALP_FERMION,
        "dark-scalar": dark_scalar.DARK_SCALAR,
        "tau-alp": tau_alp.TAU_ALP,
        "tau-alp-ratio": tau_alp.TAU_ALP_RATIO,
        "heavy-neutral-lepton": heavy_neutral_lepton.HEAVY_NEUTRAL_LEPTON,
        "inelastic-dark-higgs": inelastic_dark_matter.DARK_HIGGS,
        "inelastic-dark-higgs-epsilon": inelastic_dark_matter.DARK_HIGGS_EPSILON,
    }
)
