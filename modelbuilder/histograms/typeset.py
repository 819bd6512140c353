"""Particles and processes as formulas for figures, in the mathematics of matplotlib."""

from __future__ import annotations

import re

from modelbuilder.spec.topology import ALIASES, particles_by_name

_NEUTRINO = re.compile(r"(anti-)?nu(bar)?_(e|mu|tau)")
_PRIMED, _INDEXED = re.compile(r"[A-Za-z]p"), re.compile(r"[A-Z]{2}")
_GREEK = frozenset({"alpha", "chi", "phi", "psi", "rho", "sigma"})  # where no known particle has the name
_SYMBOLS = {"->": r"\to", ",": r",\;", "e+": "e^{+}", "e-": "e^{-}"}


def particle_formula(name: str) -> str | None:
    """A particle without dollar signs; None if it cannot be typeset.

    Names of hypotheses are set as they are: a single letter in italics, others upright; but `Ap`, as specs write A', has its
    prime, `YD` its index, `alpha` is a letter, and `chi1` one with an index. `gamma[2]` has an index.
    """
    name, _, which = name.partition("[")
    index = f"_{{{which.rstrip(']')}}}" if which else ""
    neutrino = _NEUTRINO.fullmatch(name)
    if neutrino:
        anti, flavour = neutrino[1] or neutrino[2], neutrino[3]
        flavour = flavour if flavour == "e" else f"\\{flavour}"
        return rf"\bar{{\nu}}_{{{flavour}}}" if anti else rf"\nu_{{{flavour}}}"
    known = particles_by_name().get(ALIASES.get(name, name))
    found = _SYMBOLS.get(name) or (known.latex_name if known else None)
    if found:
        return found + index
    if not re.fullmatch(r"\w+", name):
        return None
    if name in _GREEK:
        return f"\\{name}{index}"
    if name[:-1] in _GREEK and name[-1].isdigit():
        return f"\\{name[:-1]}_{{{name[-1]}}}{index}"
    if _PRIMED.fullmatch(name):
        return f"{name[0]}'{index}"
    if _INDEXED.fullmatch(name):
        return f"{name[0]}_{{{name[1]}}}{index}"
    spelled = name.replace("_", r"\_")
    return (name if len(name) == 1 else rf"\mathrm{{{spelled}}}") + index


def formula(process: str) -> str:
    """A chain of decays as a formula where its particles are known, and as it is where they cannot be typeset."""
    from matplotlib.mathtext import MathTextParser

    parts = [particle_formula(word) for word in process.replace(",", " , ").split()]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return process
    text = "$" + " ".join(known) + "$"
    try:
        MathTextParser("agg").parse(text)
    except ValueError:
        return process
    return text
