"""Which product plays which part in a law: by species, charge, spin and lepton number, not by the order of the text.

`arranged` gives the products in the order that the formulas want, or says what the law needs and they are not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Order = tuple[int, ...]

# Charged mesons of spin 1 that a tau decays to, by all their names
VECTOR_HADRONS = {
    f"{name}{charge}" for name in ("rho", "rho(770)", "K*", "K*(892)", "a_1", "a(1)(1260)") for charge in "+-"
}


@dataclass(frozen=True, kw_only=True)
class Role:
    """What is known of a particle without its law.

    spin: twice it, None for a hypothesis.    flavour: e, mu or tau of a lepton, "" if none or unsaid.
    lepton_number: 1 for a lepton, -1 for its antiparticle, 0 for others and hypotheses.
    """

    species: str
    mass: float
    charge: int
    spin: int | None
    flavour: str = ""
    lepton_number: int = 0

    @property
    def is_charged_lepton(self) -> bool:
        """Whether it is an electron, muon or tau."""
        return bool(self.lepton_number and self.charge)

    @property
    def is_neutrino(self) -> bool:
        """Whether it is a neutrino of the standard model."""
        return bool(self.lepton_number and not self.charge)

    @property
    def is_unknown_neutral(self) -> bool:
        """Whether it is a hypothesis without charge."""
        return self.spin is None and not self.charge

    def may_have_spin(self, twice: int) -> bool:
        """Whether it has this spin, in halves, or could."""
        return self.spin in (None, twice)


def arranged(name: str, parent: Role, products: Sequence[Role], vector: str = "") -> Order | str:
    """Places of the products in the order of a law, or what the law needs and they are not.

    parent: of species `e+ e-` for a production.    vector: the species that was said to be the vector.
    """
    rule = _RULES.get(name)
    if name.startswith(("leptons-", "mixed-leptons-")):
        return _leptons_and_one(name, products)
    if rule is None:
        return tuple(range(len(products)))
    return rule(parent, products, vector)


def _photons(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    if any(product.species != "gamma" for product in products):
        return "photons only"
    return tuple(range(len(products)))


def _resonance(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    return (0,) if products[0].may_have_spin(2) else "a particle of spin 1, as the photon that it comes from"


def _photon_and_pseudoscalar(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    return _photon_and_one(products, 0)


def _photon_and_vector(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    return _photon_and_one(products, 2)


def _photon_and_one(products: Sequence[Role], spin: int) -> Order | str:
    for order in ((0, 1), (1, 0)):
        photon, other = (products[place] for place in order)
        if photon.species == "gamma" and other.species != "gamma" and other.may_have_spin(spin) and not other.charge:
            return order
    return f"gamma and one other particle, of spin {spin // 2}"


def _vector_and_scalar(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    one, two = products
    if vector:
        if one.species == two.species or vector not in (one.species, two.species):
            return f"two different particles, one of them the vector {vector}"
        order = (0, 1) if one.species == vector else (1, 0)
        if not (products[order[0]].may_have_spin(2) and products[order[1]].may_have_spin(0)):
            return "a vector and a particle of spin 0"
        return order
    fits = [(a, b) for a, b in ((0, 1), (1, 0)) if products[a].may_have_spin(2) and products[b].may_have_spin(0)]
    if not fits:
        return "a vector and a particle of spin 0"
    if len(fits) == 2:
        if one.species == two.species:
            return "two different particles, a vector and one of spin 0"
        return f"to know which particle is the vector: write {{law: vector-scalar, vector: {one.species}}}, or {two.species}"
    return fits[0]


def _fermion_pair(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    if products[0].mass != products[1].mass:
        return "two equal masses"
    return (0, 1) if all(product.may_have_spin(1) for product in products) else "two particles of spin 1/2"


def _leptons_and_one(name: str, products: Sequence[Role]) -> Order | str:
    """The negative lepton, the positive one, and what they radiate."""
    leptons = sorted((i for i, p in enumerate(products) if p.is_charged_lepton), key=lambda i: products[i].charge)
    mixed = name.startswith("mixed-")
    if len(leptons) != 2 or mixed == (products[leptons[0]].flavour == products[leptons[1]].flavour):
        return "two leptons of different flavour, and one more" if mixed else "two leptons of one flavour, and one more"
    (last,) = {0, 1, 2} - {*leptons}
    other = products[last]
    if name == "leptons-photon":
        return (*leptons, last) if other.species == "gamma" else "a photon besides the leptons"
    spin = 2 if name.endswith("-vector") else 0
    if other.mass == 0.0:
        return "a particle with a mass besides the leptons"
    if not other.may_have_spin(spin):
        return f"a particle of spin {spin // 2} besides the leptons"
    if mixed:
        # the propagator of the heavier lepton has its pole within the phase space
        gap = abs(products[leptons[0]].mass - products[leptons[1]].mass)
        if other.mass <= gap:
            return f"a third particle above {gap:.6g} GeV, below which the heavier lepton decays to it"
    return (*leptons, last)


def _fermions(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    if not parent.may_have_spin(2):
        return "a parent of spin 1"
    return (0, 1) if all(product.may_have_spin(1) for product in products) else "two particles of spin 1/2"


def _scalars(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    if not parent.may_have_spin(2):
        return "a parent of spin 1"
    return (0, 1) if all(product.may_have_spin(0) for product in products) else "two particles of spin 0"


def _vector_hadron(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    """The hadron, the neutrino."""
    for order in ((0, 1), (1, 0)):
        hadron, neutrino = (products[place] for place in order)
        own = neutrino.is_neutrino and neutrino.flavour in ("", "tau")  # `nu` of tau+ is its antineutrino
        if parent.is_charged_lepton and parent.flavour == "tau" and own and hadron.species in VECTOR_HADRONS:
            return order
    return "tau to its neutrino and rho, K* or a_1, as in tau- -> a_1- nu_tau"


def _leptonic(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    """The neutrino of the parent, the lepton, the other neutrino."""
    name = parent.species
    number = parent.lepton_number or -parent.charge  # of a charged hypothesis: that of a lepton of its charge
    bar = {1: ("", "anti-"), -1: ("anti-", "")}.get(number, ("", "anti-"))
    flavour = parent.flavour or "x"
    needs = (
        f"a charged lepton, the neutrino of its parent, and its own, as in {name} -> {bar[0]}nu_{flavour}"
        f" {'mu' if flavour == 'tau' else 'e'}{'-' if number > 0 else '+'} {bar[1]}nu_{'mu' if flavour == 'tau' else 'e'}"
    )
    if not parent.charge or (parent.spin is not None and not parent.is_charged_lepton):
        return "a charged lepton that decays"
    leptons = [
        i for i, p in enumerate(products) if p.charge == parent.charge and (p.is_charged_lepton or p.spin is None)
    ]
    if len(leptons) != 1:
        return needs
    (lepton,) = leptons
    first, second = (i for i in range(3) if i != lepton)
    fits = [
        (own, lepton, other)
        for own, other in ((first, second), (second, first))
        if _may_be_neutrino(products[own], number, parent.flavour)
        and _may_be_neutrino(products[other], -number, products[lepton].flavour)
    ]
    # two hypotheses could be either
    return fits[0] if len(fits) == 1 else needs


def _may_be_neutrino(product: Role, number: int, flavour: str) -> bool:
    if product.is_unknown_neutral:
        return True
    same_flavour = not product.flavour or not flavour or product.flavour == flavour
    return product.is_neutrino and product.lepton_number == number and same_flavour


def _neutral_lepton(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    """The neutrino, and the leptons: the negative one first for N, last for its antiparticle, which has an antineutrino."""
    order = _one_and_pair(products)
    if order is None or not (products[order[0]].is_neutrino or products[order[0]].is_unknown_neutral):
        return "a neutrino and two leptons of one flavour, as in N -> nu mu- mu+"
    neutrino, minus, plus = order
    return (neutrino, plus, minus) if products[neutrino].lepton_number < 0 else order


def _dark_current(parent: Role, products: Sequence[Role], vector: str) -> Order | str:
    order = _one_and_pair(products)
    if order is None or products[order[0]].charge or not products[order[0]].may_have_spin(1):
        return "a lighter fermion without charge and two leptons of one flavour, as in chi2 -> chi1 e- e+"
    return order


def _one_and_pair(products: Sequence[Role]) -> tuple[int, int, int] | None:
    """The one that is no charged lepton, the negative and the positive lepton of one flavour."""
    leptons = sorted((i for i, p in enumerate(products) if p.is_charged_lepton), key=lambda i: products[i].charge)
    if len(leptons) != 2:
        return None
    minus, plus = leptons
    if products[minus].charge == products[plus].charge or products[minus].flavour != products[plus].flavour:
        return None
    (other,) = {0, 1, 2} - {minus, plus}
    return other, minus, plus


_RULES = {
    "resonance": _resonance,
    "two-photons": _photons,
    "three-photons": _photons,
    "photon-pseudoscalar": _photon_and_pseudoscalar,
    "photon-vector": _photon_and_vector,
    "vector-scalar": _vector_and_scalar,
    "fermion-pair": _fermion_pair,
    "vector-to-fermions": _fermions,
    "vector-to-scalars": _scalars,
    "leptonic": _leptonic,
    "vector-hadron": _vector_hadron,
    "neutral-lepton": _neutral_lepton,
    "dark-current": _dark_current,
}
