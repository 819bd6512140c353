"""A decay chain, from the line that a user writes to nodes and vertices.

    e+ e- -> gamma a, a -> gamma gamma
    e+ e- -> mu+ mu- Zp, Zp -> invisible
    e+ e- -> Y(4S), Y(4S) -> B+ B-, B+ -> K+ S, S -> pi+ pi-
    B0 -> Lambda psi, Lambda -> p pi-

Steps are separated by commas, particles by spaces. Particles of the PDG table have their mass, charge, width and
lifetime from the `particle` package, under its names, those of EvtGen, or the short ones in `ALIASES`; any other name is
a hypothesis, whose mass the caller gives. A hypothesis whose name ends in + or - is charged. `X -> invisible` says that X
leaves no trace. One step for a name holds for all particles of that name; with as many steps as particles they are
taken in order. A chain that does not begin with e+ e- has its first particle at rest in the e+e- frame.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Literal, NoReturn

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.roles import Role, arranged

if TYPE_CHECKING:
    from particle import Particle

Kind = Literal["photon", "electron", "muon", "pion", "kaon", "proton", "neutral", "invisible", "unresolved"]

INITIAL = "e+ e-"

# From this width on the mass of a particle of the PDG table varies from event to event.
WIDE = 1e-3  # GeV
# The mass stays within so many widths of the nominal one; the tails beyond are no resonance any more.
WIDTHS = 15.0
MOST_NODES = 48
_NUCLEI = 1_000_000_000  # their PDG numbers are larger
# Below this ctau a decay is prompt.
PROMPT = 1e-6  # cm

ALIASES = {
    "Y(1S)": "Upsilon(1S)",
    "Y(2S)": "Upsilon(2S)",
    "Y(3S)": "Upsilon(3S)",
    "Y(4S)": "Upsilon(4S)",
    "Bbar0": "B~0",
    "B0bar": "B~0",
    "pbar": "p~",
    "Lambdabar": "Lambda~",
    "eta_prime": "eta'(958)",
    "eta'": "eta'(958)",
    "KS": "K(S)0",
    "KL": "K(L)0",
}
NEUTRINOS = {
    "nu",
    "nubar",
    *(f"{bar}nu{mark}{flavour}" for bar in ("", "anti-") for mark in "_" for flavour in ("e", "mu", "tau")),
    *(f"nu({flavour}){bar}" for bar in ("", "~") for flavour in ("e", "mu", "tau")),
    *(f"nubar_{flavour}" for flavour in ("e", "mu", "tau")),
}
KINDS: dict[int, Kind] = {
    22: "photon",
    11: "electron",
    13: "muon",
    211: "pion",
    321: "kaon",
    2212: "proton",
    2112: "neutral",
    130: "neutral",
}

# What leaves a track, by the particle whose mass it is given.
TRACKS: dict[Kind, str] = {"electron": "e-", "muon": "mu-", "pion": "pi-", "kaon": "K-", "proton": "p"}

# Charged leptons, without their sign.
LEPTONS = ("e", "mu", "tau")
# Neutral mesons of spin 0 and odd parity, pi0 eta eta' eta_c eta_b: two photons couple to them as to an axion.
PSEUDOSCALARS = {111, 221, 331, 441, 551}


@dataclass(frozen=True, kw_only=True)
class _Rule:
    """What a law needs: number of children, where it may stand, and which numbers it has."""

    least: int
    most: int
    at_production: bool = False
    at_decay: bool = False
    parameter: tuple[float, float] | None = None  # the least allowed if it begins with -1, else above; below the second
    min_energy: Literal["none", "optional", "needed"] = "none"
    max_cos: bool = False
    all_angles: bool = False  # whether max_cos may be 1


_PAIR = _Rule(least=2, most=2, at_production=True)
_THREE = _Rule(least=3, most=3, at_production=True)
_DECAY = _Rule(least=3, most=3, at_decay=True)
LAWS: dict[str, _Rule] = {
    "phase-space": _Rule(least=2, most=6, at_production=True, at_decay=True),
    "dipole": replace(_PAIR, at_decay=True, parameter=(-1.0, math.inf)),
    "sine-squared": replace(_PAIR, at_decay=True),
    "cosine-squared": replace(_PAIR, at_decay=True),
    "resonance": _Rule(least=1, most=1, at_production=True),
    "fermion-pair": _PAIR,
    "photon-pseudoscalar": _PAIR,
    "photon-vector": replace(_PAIR, min_energy="optional", max_cos=True),
    "vector-scalar": _PAIR,
    "two-photons": replace(_PAIR, min_energy="optional", max_cos=True),
    "three-photons": replace(_THREE, min_energy="needed", max_cos=True),
    "leptons-photon": replace(_THREE, min_energy="needed", max_cos=True, all_angles=True),
    "leptons-vector": _THREE,
    "leptons-scalar": _THREE,
    "leptons-pseudoscalar": _THREE,
    "mixed-leptons-vector": _THREE,
    "mixed-leptons-scalar": _THREE,
    "mixed-leptons-pseudoscalar": _THREE,
    "leptonic": _DECAY,
    "neutral-lepton": _DECAY,
    "dark-current": replace(_DECAY, parameter=(0.0, math.inf)),
    "vector-to-fermions": _Rule(least=2, most=2, at_decay=True),
    "vector-to-scalars": _Rule(least=2, most=2, at_decay=True),
    "vector-hadron": _Rule(least=2, most=2, at_decay=True),
}
# Productions that make a vector whose polarisation is known, and its place in the order of the law
_POLARISING = {"photon-vector": 1, "vector-scalar": 0, "leptons-vector": 2, "resonance": 0}


@dataclass(frozen=True, kw_only=True)
class Law:
    """How the children of a vertex are distributed.

    phase-space            constant matrix element, 2 to 6 children
    dipole                 1 + parameter cos^2 (parameter from -1; 1 if not given)
    sine-squared, cosine-squared
    fermion-pair           e+e- -> f fbar: 1 + cos^2 + (4 m^2/s) sin^2; the spins of a pair of tau are correlated
    photon-pseudoscalar    e+e- -> gamma a: 1 + cos^2, sigma as (1 - m^2/s)^3
    photon-vector          e+e- -> gamma A': (1 + cos^2 + 4 s m^2/(s - m^2)^2)/(1 - cos^2)
    vector-scalar          e+e- -> A' h': lam sin^2 + 8 m_A'^2/s
    two-photons, three-photons    e+e- -> gamma gamma (gamma) at lowest order
    leptons-photon         e+e- -> l+ l- gamma at lowest order: radiation of the beams, of the leptons, interference;
                           for electrons only annihilation with radiation of the beams: the exchange of a photon between
                           the beams, which dominates e e gamma, is absent
    resonance              e+e- -> one resonance
    leptons-vector, leptons-scalar, leptons-pseudoscalar    e+e- -> l- l+ X at lowest order
    mixed-leptons-vector, mixed-leptons-scalar, mixed-leptons-pseudoscalar    e+e- -> l l' X of two flavours, X radiated
                           by the leptons of an annihilation: the exchange of a photon between the beams is absent
    leptonic               L -> nu_L l nubar_l
    neutral-lepton         N -> nu l- l+ through Z*, and W* if the neutrino is said to be that of l
    dark-current           chi2 -> chi1 l- l+ through A'* of mass parameter, GeV
    vector-to-fermions, vector-to-scalars    V -> f f, V -> P P, with the correlation of its directions with those of the
                           production of V, exact at lowest order: see `polarisation`
    vector-hadron          tau -> nu rho, nu K*, nu a_1: the mass of the meson by V - A, with a width that depends on it

    Which product is which follows from its species, charge, spin and lepton number (`roles.arranged`), not from the order
    of the text: the children of a vertex are in the order of this list. vector: for vector-scalar, the species that is
    the vector, where the table of particles does not tell.

    The angle is that of the first child: in production to the electron in the e+e- frame, in the decay of a resonance
    from e+e- too, in any other decay to the direction of the parent as its own parent sees it (helicity angle).

    min_energy (GeV), max_cos: least energy and largest |cos| to the electron of every photon that the law makes, in the
    rest frame of the nominal beams. Without them the cross sections of the laws with photons have no bound: three-photons
    and leptons-photon need both, two-photons and photon-vector need max_cos, and with radiation min_energy, since that
    brings sqrt(s) down to where there are infinitely many soft photons. max_cos of leptons-photon may be 1 without
    radiation: the electron mass is in it.
    """

    name: str
    parameter: float | None = None
    min_energy: float = 0.0
    max_cos: float | None = None
    vector: str = ""


PHASE_SPACE = Law(name="phase-space")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One particle of the chain.

    name: unique; the second pi+ is `pi+[2]`.    species: as written.
    mass: GeV; that of `e+ e-` is 0 here, since it comes with the beams.    width: GeV, 0 for a fixed mass.
    charge: in units of e.    ctau: cm, inf for a stable particle, 0 for a prompt decay.
    kind: what a detector sees; `unresolved` for one that decays, or an unstable one that the chain leaves whole.
    """

    name: str
    species: str
    mass: float
    charge: int
    kind: Kind
    ctau: float
    width: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Vertex:
    """A decay, or the production: places in `Topology.nodes` of the parent, and of the children in the order of the law."""

    parent: int
    children: tuple[int, ...]
    law: Law

    @property
    def as_written(self) -> tuple[int, ...]:
        """The children in the order of the text."""
        return tuple(sorted(self.children))


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A chain. nodes[0] is the beginning; parents stand before their children, in nodes and in vertices."""

    text: str
    nodes: tuple[Node, ...]
    vertices: tuple[Vertex, ...]
    _places: Mapping[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_places", {node.name: place for place, node in enumerate(self.nodes)})

    @property
    def is_collision(self) -> bool:
        """Whether the chain begins with e+ e-."""
        return self.nodes[0].name == INITIAL

    def place(self, name: str) -> int:
        """Place of a node in `nodes`."""
        if name not in self._places:
            msg = f"{self.text}: there is no {name}; there are {', '.join(self._places)}"
            raise KinematicsError(msg)
        return self._places[name]

    def mass_range(self, place: int) -> tuple[float, float]:
        """Least and largest mass of a node that has a width, by its width and its decay; GeV."""
        node = self.nodes[place]
        if node.width == 0.0:
            return node.mass, node.mass
        products = sum(self.mass_range(child)[0] for child in self.children(place))
        return max(node.mass - WIDTHS * node.width, products, 0.0), node.mass + WIDTHS * node.width

    def children(self, place: int) -> tuple[int, ...]:
        """Places of what a node decays into; empty if it does not."""
        return next((vertex.children for vertex in self.vertices if vertex.parent == place), ())


def parse_chain(
    text: str,
    *,
    masses: Mapping[str, float] | None = None,
    ctaus: Mapping[str, float] | None = None,
    laws: Mapping[str, Law] | None = None,
    widths: bool = True,
) -> Topology:
    """The chain that is written in `text`; KinematicsError with the reason if there is none.

    masses, ctaus: of the hypotheses, by name, in GeV and in cm. A hypothesis without ctau decays promptly. ctaus also
        overrides the lifetime of a known particle.
    laws: by name of the parent, `e+ e-` for the production. Decays that are not named are flat in phase space, but
        sine-squared for the two B mesons of a resonance from e+e-, and those of vectors whose polarisation is known, to
        two leptons or two particles of spin 0, follow from that; tau -> nu rho, K* or a_1 is vector-hadron. A production is never flat unless that is said: a
        resonance, pairs of muons and tau, photons, photons with such pairs or with pi0, eta, eta' have their law of
        lowest order; all others must be named.
    widths: whether known particles wider than 1 MeV have a mass distribution.
    """
    return _Reader(" ".join(text.split()), dict(masses or {}), dict(ctaus or {}), dict(laws or {}), widths).read()


def visible_places(topology: Topology) -> tuple[int, ...]:
    """Places of what a detector may see: photons and tracks that do not decay."""
    return tuple(i for i, node in enumerate(topology.nodes) if node.kind == "photon" or node.kind in TRACKS)


def decay_threshold(topology: Topology, vertex: Vertex) -> float:
    """Least mass of the parent of a vertex, GeV."""
    return sum(topology.mass_range(child)[0] for child in vertex.children)


def polarisation(topology: Topology, place: int) -> str:
    """How a particle is polarised by what it comes from, if it is a vector; "" if that is not known.

    The law of the production from e+e-; `beams` for a resonance, across the beams; `helicity 0` in the decay of a particle
    of spin 0 to it and another of spin 0, `helicity 1` to it and a photon. There hypotheses count as spinless.
    """
    vertex = next((vertex for vertex in topology.vertices if place in vertex.children), None)
    if vertex is None:
        return ""
    name = vertex.law.name
    if name in _POLARISING:
        own = vertex.children.index(place) == _POLARISING[name]
        return ("beams" if name == "resonance" else name) if own else ""
    parent = known_particle(topology.nodes[vertex.parent].species)
    if len(vertex.children) != 2 or parent is None or parent.spin != 0:
        return ""
    other = topology.nodes[next(child for child in vertex.children if child != place)].species
    if other == "gamma":
        return "helicity 1"
    known = known_particle(other)
    return "helicity 0" if known is None or known.spin == 0 else ""


def check_energy(topology: Topology, sqrt_s: float) -> None:
    """KinematicsError if the production is not possible at this energy, GeV."""
    first = topology.vertices[0]
    least = decay_threshold(topology, first)
    products = " ".join(topology.nodes[child].species for child in first.as_written)
    if least >= sqrt_s and topology.is_collision and first.law.name != "resonance":
        msg = (
            f"{INITIAL} -> {products}: the products have at least {least:.6g} GeV, but sqrt(s) is {sqrt_s:.6g} GeV;"
            " they cannot be produced"
        )
        raise KinematicsError(msg)
    if first.law.name == "resonance":
        node = topology.nodes[first.children[0]]
        width = max(node.width, WIDE)
        if abs(sqrt_s - node.mass) > 5.0 * width:
            msg = (
                f"{INITIAL} -> {products}: sqrt(s) is {sqrt_s:.6g} GeV, more than five widths from the {node.mass:.6g}"
                f" GeV of {products}; it cannot be produced without radiation"
            )
            raise KinematicsError(msg)


class _Reader:
    def __init__(
        self, text: str, masses: dict[str, float], ctaus: dict[str, float], laws: dict[str, Law], widths: bool
    ) -> None:
        self.text = text
        self.masses = masses
        self.ctaus = ctaus
        self.laws = laws
        self.widths = widths
        self.steps: dict[str, list[tuple[str, ...]]] = {}
        self.nodes: list[Node] = []
        self.vertices: list[Vertex] = []
        self.unnamed = ""  # why the law of the production must be named, if it must

    def refuse(self, reason: str) -> NoReturn:
        msg = f"{self.text}: {reason}"
        raise KinematicsError(msg)

    def read(self) -> Topology:
        start = self._read_steps()
        numbers: Counter[str] = Counter()
        self._grow(start, (), numbers)
        for species, steps in self.steps.items():
            if numbers[species] == 0:
                self.refuse(f"{species} decays but never appears")
            if len(steps) not in (1, numbers[species]):
                self.refuse(f"{species} decays {_times(len(steps))}, but appears {_times(numbers[species])}")
        unused = [name for name in [*self.masses, *self.ctaus, *self.laws] if numbers[name] == 0]
        if unused:
            self.refuse(f"a value is given for {unused[0]}, which is not in the chain")
        topology = Topology(text=self.text, nodes=tuple(self.nodes), vertices=tuple(self.vertices))
        vertices = tuple(self._with_polarisation(topology, vertex) for vertex in topology.vertices)
        topology = replace(topology, vertices=vertices)
        self._check(topology)
        if self.unnamed:
            self.refuse(self.unnamed)
        return topology

    def _read_steps(self) -> str:
        start = ""
        for part in self.text.split(","):
            sides = part.split("->")
            if len(sides) != 2:
                self.refuse(f"{part.strip()!r} is not of the form 'parent -> children'")
            left, right = sides[0].split(), sides[1].split()
            parent = left[0] if len(left) == 1 else INITIAL
            if len(left) != 1 and sorted(left) != ["e+", "e-"]:
                self.refuse(f"{' '.join(left) or 'nothing'!r} decays; one particle decays, or e+ e- collide")
            if not right:
                self.refuse(f"{parent} decays into nothing")
            if parent == INITIAL and start:
                self.refuse("e+ e- collide in the first step only")
            start = start or parent
            self.steps.setdefault(parent, []).append(tuple(right))
        return start

    def _grow(self, species: str, line: tuple[str, ...], numbers: Counter[str]) -> int:
        """Add a particle and all that it decays into; its place. line: the particles that it comes from."""
        if species in line:
            self.refuse(f"{species} decays into itself: {' -> '.join([*line[line.index(species) :], species])}")
        if len(self.nodes) >= MOST_NODES:
            self.refuse(f"more than {MOST_NODES} particles")
        numbers[species] += 1
        steps = self.steps.get(species, [()])
        step = steps[min(numbers[species], len(steps)) - 1]
        hidden = step == ("invisible",)
        if "invisible" in step and not hidden:
            self.refuse(f"{species} -> {' '.join(step)}: 'invisible' stands alone")
        names = () if hidden else step
        place = len(self.nodes)
        self.nodes.append(self._node(species, numbers[species], bool(names), hidden))
        if not names:
            if species in self.laws:
                self.refuse(f"a law is given for {species}, which does not decay")
            return place
        slot = len(self.vertices)
        self.vertices.append(Vertex(parent=place, children=(), law=PHASE_SPACE))
        children = tuple(self._grow(child, (*line, species), numbers) for child in names)
        law = self._law(species, line, [self.nodes[child] for child in children])
        order = _order(law, self.nodes[place], [self.nodes[child] for child in children])
        if not isinstance(order, str):  # else `_check` refuses it
            children = tuple(children[i] for i in order)
        self.vertices[slot] = Vertex(parent=place, children=children, law=law)
        return place

    def _node(self, species: str, number: int, decays: bool, hidden: bool) -> Node:
        if species == INITIAL:
            return Node(name=INITIAL, species=INITIAL, mass=0.0, charge=0, kind="unresolved", ctau=0.0)
        name = species if number == 1 else f"{species}[{number}]"
        known = known_particle(species)
        if known is None:
            if species not in self.masses:
                self.refuse(f"{species} is not a known particle, and no mass is given for it")
            mass = float(self.masses[species])
            if not (math.isfinite(mass) and mass >= 0.0):
                self.refuse(f"the mass of {species} is {mass:g} GeV; it must not be negative")
            charge = 1 if species.endswith("+") else -1 if species.endswith("-") else 0
            kind: Kind = "unresolved" if decays or (charge and not hidden) else "invisible"
            ctau, width = (0.0 if decays else math.inf), 0.0
        else:
            if species in self.masses:
                self.refuse(f"{species} is a known particle of {known.mass:.6g} GeV; another mass cannot be given")
            mass, charge, ctau, width = known.mass, known.charge, known.ctau, known.width
            kind = "invisible" if hidden else "unresolved" if decays else known.kind
        if species in self.ctaus:
            ctau = float(self.ctaus[species])
            if not (ctau >= 0.0):
                self.refuse(f"ctau of {species} is {ctau:g} cm; it must not be negative")
            if decays and math.isinf(ctau):
                self.refuse(f"{species} decays, but its ctau is infinite")
        if decays and mass == 0.0:
            self.refuse(f"{species} decays, but has no mass")
        wide = self.widths and width >= WIDE
        return Node(
            name=name,
            species=species,
            mass=mass,
            charge=charge,
            kind=kind,
            ctau=0.0 if decays and ctau < PROMPT else ctau,
            width=width if wide else 0.0,
        )

    def _law(self, species: str, line: tuple[str, ...], children: Sequence[Node]) -> Law:
        if species in self.laws:
            return self._given_law(species, self.laws[species], len(children))
        if species == INITIAL:
            return self._given_law(species, self._lowest_order(children), len(children))
        resonance = line == (INITIAL,) and len(self.steps[INITIAL][0]) == 1
        if resonance and len(children) == 2 and all(child.species.startswith("B") for child in children):
            return Law(name="sine-squared")
        if len(children) == 2:
            hadronic = Law(name="vector-hadron")
            parent = next(node for node in self.nodes if node.species == species)
            if not isinstance(_order(hadronic, parent, children), str):
                return hadronic
        return PHASE_SPACE

    def _with_polarisation(self, topology: Topology, vertex: Vertex) -> Vertex:
        """A decay that is not named, with the law that the polarisation of its parent gives it."""
        node = topology.nodes[vertex.parent]
        if vertex.law != PHASE_SPACE or node.species in self.laws or len(vertex.children) != 2:
            return vertex
        known = known_particle(node.species)
        how = polarisation(topology, vertex.parent)
        if not how or (known is None and how.startswith("helicity")) or (known is not None and known.spin != 2):
            return vertex
        roles = [_role(topology.nodes[child]) for child in vertex.children]
        numbers = [role.lepton_number for role in roles]
        dark = any(v.parent in vertex.children and v.law.name == "dark-current" for v in topology.vertices)
        if all(role.spin == 0 for role in roles):
            return replace(vertex, law=Law(name="vector-to-scalars"))
        if dark or (sorted(numbers) == [-1, 1] and roles[0].flavour == roles[1].flavour):
            return replace(vertex, law=Law(name="vector-to-fermions"))
        return vertex

    def _lowest_order(self, children: Sequence[Node]) -> Law:
        """The law of a production that is not named; if there is none, `unnamed` says why."""
        names = [child.species for child in children]
        products = f"{INITIAL} -> {' '.join(names)}"
        if len(children) == 1:
            return Law(name="resonance")
        flavours = _flavours(names)
        rest = [name for name in names if _flavour(name) is None]
        pair = len(flavours) == 2 and flavours[0] == flavours[1]
        if rest in ([], ["gamma"]) and pair and flavours[0] == "e":
            law = "leptons-photon" if rest else "fermion-pair"
            self.unnamed = (
                f"{products}: electrons also come from the exchange of a photon between the beams (Bhabha scattering),"
                f" which cannot be simulated; name the law of e+ e-: {law!r} for the part of annihilation alone, or"
                " 'phase-space' if a flat distribution is meant"
            )
            return PHASE_SPACE
        name = ""
        if not rest and pair:
            name = "fermion-pair"
        elif rest == ["gamma"] and pair:
            name = "leptons-photon"
        elif names == ["gamma"] * len(names) and len(names) <= 3:
            name = "two-photons" if len(names) == 2 else "three-photons"
        elif len(names) == 2 and "gamma" in names and any(_is_pseudoscalar(name) for name in names):
            name = "photon-pseudoscalar"
        if name:
            return Law(name=name)
        fitting = _fitting_laws(names)
        self.unnamed = (
            f"{products}: name the law of e+ e-: {', '.join([*map(repr, fitting), ''])}{'or ' if fitting else ''}"
            "'phase-space' if a flat distribution is meant"
        )
        return PHASE_SPACE

    def _given_law(self, species: str, law: Law, n_children: int) -> Law:
        if law.name not in LAWS:
            self.refuse(f"unknown law {law.name!r} for {species}; known: {', '.join(sorted(LAWS))}")
        rule = LAWS[law.name]
        if not rule.least <= n_children <= rule.most:
            number = f"{rule.least}" if rule.least == rule.most else f"{rule.least} to {rule.most}"
            self.refuse(f"the law {law.name!r} needs {number} particles, but {species} goes to {n_children}")
        if not (rule.at_production if species == INITIAL else rule.at_decay):
            where = "decays" if rule.at_decay else "e+ e-"
            self.refuse(f"the law {law.name!r} is for {where} only, not for {species}")
        self._check_cuts(species, law, rule)
        if law.vector and law.name != "vector-scalar":
            self.refuse(f"the law {law.name!r} for {species} does not ask which particle is the vector")
        if rule.parameter is None:
            if law.parameter is not None:
                self.refuse(f"the law {law.name!r} has no parameter")
            return law
        low, high = rule.parameter
        parameter = 1.0 if law.parameter is None and law.name == "dipole" else law.parameter
        closed = law.name == "dipole"
        if parameter is None or not ((low <= parameter if closed else low < parameter) and parameter < high):
            bounds = f"at least {low:g}" if closed else f"above {low:g}"
            self.refuse(f"the law {law.name!r} needs a parameter {bounds}, not {parameter}")
        return replace(law, parameter=parameter)

    def _check_cuts(self, species: str, law: Law, rule: _Rule) -> None:
        if rule.min_energy == "none":
            for name, found in (("min_energy", law.min_energy or None), ("max_cos", law.max_cos)):
                if found is not None:
                    self.refuse(f"the law {law.name!r} for {species} has no {name}")
            return
        energy = "min_energy (GeV) and " if rule.min_energy == "needed" else ""
        if (rule.min_energy == "needed" and law.min_energy == 0.0) or law.max_cos is None:
            self.refuse(
                f"the cross section of the law {law.name!r} has no bound without {energy}max_cos of the photons in the"
                " e+e- frame; give them with the law of e+ e-"
            )
        if not (math.isfinite(law.min_energy) and law.min_energy >= 0.0):
            self.refuse(f"the law {law.name!r} has a min_energy of {law.min_energy:g} GeV; it must be positive")
        if not (0.0 < law.max_cos < 1.0 or (law.max_cos == 1.0 and rule.all_angles)):
            most = "at most" if rule.all_angles else "below"
            self.refuse(f"the law {law.name!r} has a max_cos of {law.max_cos:g}; it must be above 0 and {most} 1")

    def _check(self, topology: Topology) -> None:
        for vertex in topology.vertices:
            parent = topology.nodes[vertex.parent]
            children = [topology.nodes[child] for child in vertex.children]
            written = " ".join(topology.nodes[child].species for child in vertex.as_written)
            names = f"{parent.species} -> {written}"
            if parent.species != INITIAL and len(children) == 1:
                self.refuse(f"{names}: a decay needs at least two particles")
            if len(children) > 6:
                self.refuse(f"{names}: {len(children)} particles; at most 6 can be simulated")
            total = sum(child.charge for child in children)
            if total != parent.charge:
                self.refuse(f"{names}: charge {parent.charge} goes to {total}")
            least = decay_threshold(topology, vertex)
            if parent.species != INITIAL and least >= topology.mass_range(vertex.parent)[1]:
                self.refuse(
                    f"{names}: the products have at least {least:.6g} GeV, but {parent.species} has"
                    f" {topology.mass_range(vertex.parent)[1]:.6g} GeV; the decay is not possible"
                )
            order = _order(vertex.law, parent, children)
            if isinstance(order, str):
                self.refuse(f"{names}: the law {vertex.law.name!r} needs {order}")
            if vertex.law.name.startswith("vector-to-") and not polarisation(topology, vertex.parent):
                self.refuse(
                    f"{names}: the law {vertex.law.name!r} needs to know how {parent.species} is polarised: it must come"
                    " from e+e- alone, with a photon, a scalar (vector-scalar) or two leptons (leptons-vector), or from a"
                    " particle of spin 0 with another of spin 0 or a photon; sine-squared and cosine-squared are to the"
                    " direction of its flight"
                )


def _order(law: Law, parent: Node, children: Sequence[Node]) -> tuple[int, ...] | str:
    """Places of the children in the order of the law, or what the law needs and they are not."""
    return arranged(law.name, _role(parent), [_role(child) for child in children], law.vector)


def _role(node: Node) -> Role:
    flavour, number = lepton_identity(node.species)
    known = known_particle(node.species)
    spin = 1 if number else None if known is None else known.spin
    return Role(
        species=node.species, mass=node.mass, charge=node.charge, spin=spin, flavour=flavour, lepton_number=number
    )


def lepton_identity(species: str) -> tuple[str, int]:
    """Flavour, "" if it is not said, and lepton number of a lepton; ("", 0) for all others."""
    charged = _flavour(species)
    if charged is not None:
        return charged, 1 if species.endswith("-") else -1
    if species not in NEUTRINOS:
        return "", 0
    anti = species.startswith(("anti-", "nubar")) or species.endswith("~")
    flavour = next((name for name in ("tau", "mu", "e") if species.rstrip("~)").endswith((f"_{name}", f"({name}"))), "")
    return flavour, -1 if anti else 1


def _flavour(species: str) -> str | None:
    """e, mu or tau of a charged lepton."""
    flavour = species.rstrip("+-")
    return flavour if flavour in LEPTONS and species != flavour else None


def _flavours(names: Sequence[str]) -> list[str]:
    """Flavours of the charged leptons among these."""
    return [flavour for flavour in map(_flavour, names) if flavour is not None]


def _is_pseudoscalar(species: str) -> bool:
    known = known_particle(species)
    return known is not None and known.number in PSEUDOSCALARS


def _fitting_laws(names: Sequence[str]) -> list[str]:
    """Laws that a production of these could have, other than flat ones."""
    flavours = _flavours(names)
    rest = [name for name in names if _flavour(name) is None]
    if len(names) == 2 and "gamma" in names:
        return ["photon-pseudoscalar", "photon-vector"]
    if len(flavours) == 2 and len(rest) == 1:
        first = "leptons" if flavours[0] == flavours[1] else "mixed-leptons"
        return [f"{first}-{kind}" for kind in ("vector", "scalar", "pseudoscalar")]
    if len(names) == 2:
        spins = [None if (known := known_particle(name)) is None else known.spin for name in names]
        laws = ["vector-scalar"] if any(_fit(spins, pair) for pair in ((2, 0), (0, 2))) else []
        return [*laws, *(["fermion-pair"] if _fit(spins, (1, 1)) else []), "sine-squared"]
    return []


def _fit(spins: Sequence[int | None], wanted: tuple[int, int]) -> bool:
    return all(spin in (None, want) for spin, want in zip(spins, wanted, strict=True))


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


@dataclass(frozen=True, kw_only=True)
class KnownParticle:
    """What the chain needs to know of a particle of the table: GeV, e, cm, and its number without the sign.

    spin: twice it, None if the table has none.
    """

    number: int
    mass: float
    charge: int
    kind: Kind
    ctau: float
    width: float
    spin: int | None


def known_particle(species: str) -> KnownParticle | None:
    """A particle of the PDG table, or None."""
    if species in NEUTRINOS:
        return KnownParticle(number=0, mass=0.0, charge=0, kind="invisible", ctau=math.inf, width=0.0, spin=1)
    return _table().get(ALIASES.get(species, species))


@functools.cache
def _table() -> dict[str, KnownParticle]:
    """Leptons, bosons and hadrons with a mass, by their PDG and EvtGen names: no quarks, no nuclei."""
    table: dict[str, KnownParticle] = {}
    for name, particle in particles_by_name().items():
        number = abs(int(particle.pdgid))
        confined = number <= 8 or number == 21
        if confined or particle.mass is None or particle.charge is None:
            continue
        width = particle.width or 0.0
        table[name] = KnownParticle(
            number=number,
            mass=particle.mass * 1e-3,
            charge=round(float(particle.charge)),
            kind=KINDS.get(number, "unresolved"),
            # a nominal width of zero is a stable particle; ctau comes in mm
            ctau=0.1 * particle.ctau if particle.ctau is not None and width > 0.0 else math.inf,
            width=width * 1e-3,
            spin=None if particle.J is None else round(2 * Fraction(str(particle.J))),
        )
    return table


@functools.cache
def particles_by_name() -> dict[str, Particle]:
    """Particles of the PDG table with a mass and a charge, but no nuclei, by the names of PDG and EvtGen."""
    from particle import Particle
    from particle.converters import EvtGenName2PDGIDBiMap
    from particle.exceptions import MatchingIDNotFound

    found: dict[str, Particle] = {}
    for particle in Particle.all():
        if abs(int(particle.pdgid)) > _NUCLEI:  # nine in ten, whose names take a quarter of a second
            continue
        if particle.mass is None or particle.charge is None:
            continue
        found.setdefault(particle.name, particle)
        with contextlib.suppress(MatchingIDNotFound):
            found.setdefault(str(EvtGenName2PDGIDBiMap[particle.pdgid]), particle)
    return found
