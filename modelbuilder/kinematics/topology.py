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

import functools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NoReturn

from modelbuilder.errors import KinematicsError

Kind = Literal["photon", "electron", "muon", "pion", "kaon", "proton", "neutral", "invisible", "unresolved"]

INITIAL = "e+ e-"

# From this width on the mass of a particle of the PDG table varies from event to event.
WIDE = 1e-3  # GeV
# The mass stays within so many widths of the nominal one; the tails beyond are no resonance any more.
WIDTHS = 15.0
MOST_NODES = 48
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

# Laws of a vertex: least and largest number of children, and whether it may stand at e+ e- and at a decay.
LAWS: dict[str, tuple[int, int, bool, bool]] = {
    "phase-space": (2, 6, True, True),
    "dipole": (2, 2, True, True),
    "sine-squared": (2, 2, True, True),
    "cosine-squared": (2, 2, True, True),
    "resonance": (1, 1, True, False),
    "fermion-pair": (2, 2, True, False),
    "photon-pseudoscalar": (2, 2, True, False),
    "photon-vector": (2, 2, True, False),
    "vector-scalar": (2, 2, True, False),
    "leptons-vector": (3, 3, True, False),
    "leptons-scalar": (3, 3, True, False),
    "leptons-pseudoscalar": (3, 3, True, False),
    "leptonic": (3, 3, False, True),
    "neutral-lepton": (3, 3, False, True),
    "dark-current": (3, 3, False, True),
}


@dataclass(frozen=True, kw_only=True)
class Law:
    """How the children of a vertex are distributed.

    phase-space            constant matrix element, 2 to 6 children
    dipole                 1 + parameter cos^2 (parameter from -1; 1 if not given)
    sine-squared, cosine-squared
    fermion-pair           e+e- -> f fbar: 1 + cos^2 + (4 m^2/s) sin^2
    photon-pseudoscalar    e+e- -> gamma a: 1 + cos^2, sigma as (1 - m^2/s)^3
    photon-vector          e+e- -> gamma A': (1 + cos^2 + 4 s m^2/(s - m^2)^2)/(1 - cos^2) for |cos| below parameter,
                           photons of at least min_energy, GeV, in the e+e- frame: radiation that brings sqrt(s) down
                           to m would otherwise make infinitely many soft ones
    vector-scalar          e+e- -> A' h': lam sin^2 + 8 m_A'^2/s
    resonance              e+e- -> one resonance
    leptons-vector, leptons-scalar, leptons-pseudoscalar    e+e- -> l- l+ X at lowest order, the children in any order
    leptonic               L -> nu_L l nubar_l: the children in the order neutrino of L, lepton, other neutrino
    neutral-lepton         N -> nu l- l+ through Z*
    dark-current           chi2 -> chi1 l- l+ through A'* of mass parameter, GeV

    The angle is that of the first child: in production to the electron in the e+e- frame, in the decay of a resonance
    from e+e- too, in any other decay to the direction of the parent as its own parent sees it (helicity angle).
    """

    name: str
    parameter: float | None = None
    min_energy: float = 0.0


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
    """A decay, or the production: places of the parent and of the children in `Topology.nodes`."""

    parent: int
    children: tuple[int, ...]
    law: Law


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
    laws: by name of the parent, `e+ e-` for the production. Else: fermion-pair for a charged lepton and its
        antiparticle, resonance for one particle, sine-squared for the two mesons of a resonance from e+e-, otherwise
        phase-space.
    widths: whether known particles wider than 1 MeV have a mass distribution.
    """
    return _Reader(" ".join(text.split()), dict(masses or {}), dict(ctaus or {}), dict(laws or {}), widths).read()


def decay_threshold(topology: Topology, vertex: Vertex) -> float:
    """Least mass of the parent of a vertex, GeV."""
    return sum(topology.mass_range(child)[0] for child in vertex.children)


def check_energy(topology: Topology, sqrt_s: float) -> None:
    """KinematicsError if the production is not possible at this energy, GeV."""
    first = topology.vertices[0]
    least = decay_threshold(topology, first)
    products = " ".join(topology.nodes[child].species for child in first.children)
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
        self._check(topology)
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
            return self._given_law(species, len(children))
        if species == INITIAL and len(children) == 1:
            return Law(name="resonance")
        pair = len(children) == 2 and children[0].charge == -children[1].charge != 0
        names = sorted(child.species.rstrip("+-") for child in children)
        if species == INITIAL and pair and names[0] == names[-1] and names[0] in {"mu", "tau"}:
            return Law(name="fermion-pair")
        resonance = line == (INITIAL,) and len(self.steps[INITIAL][0]) == 1
        if resonance and len(children) == 2 and all(child.species.startswith("B") for child in children):
            return Law(name="sine-squared")
        return PHASE_SPACE

    def _given_law(self, species: str, n_children: int) -> Law:
        law = self.laws[species]
        if law.name not in LAWS:
            self.refuse(f"unknown law {law.name!r} for {species}; known: {', '.join(sorted(LAWS))}")
        least, most, production, decay = LAWS[law.name]
        if not least <= n_children <= most:
            number = f"{least}" if least == most else f"{least} to {most}"
            self.refuse(f"the law {law.name!r} needs {number} particles, but {species} goes to {n_children}")
        if not (production if species == INITIAL else decay):
            where = "decays" if production is False else "e+ e-"
            self.refuse(f"the law {law.name!r} is for {where} only, not for {species}")
        if law.min_energy < 0.0 or (law.min_energy > 0.0 and law.name != "photon-vector"):
            self.refuse(
                f"the law {law.name!r} for {species} has min_energy {law.min_energy:g}; photon-vector may have one"
            )
        needs = {"dipole": (-1.0, math.inf), "photon-vector": (0.0, 1.0), "dark-current": (0.0, math.inf)}
        if law.name not in needs:
            if law.parameter is not None:
                self.refuse(f"the law {law.name!r} has no parameter")
            return law
        low, high = needs[law.name]
        parameter = 1.0 if law.parameter is None and law.name == "dipole" else law.parameter
        closed = law.name == "dipole"
        if parameter is None or not ((low <= parameter if closed else low < parameter) and parameter < high):
            bounds = f"at least {low:g}" if closed else f"above {low:g}"
            bounds += "" if math.isinf(high) else f" and below {high:g}"
            self.refuse(f"the law {law.name!r} needs a parameter {bounds}, not {parameter}")
        return Law(name=law.name, parameter=parameter, min_energy=law.min_energy)

    def _check(self, topology: Topology) -> None:
        for vertex in topology.vertices:
            parent = topology.nodes[vertex.parent]
            children = [topology.nodes[child] for child in vertex.children]
            names = f"{parent.species} -> {' '.join(child.species for child in children)}"
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
            if vertex.law.name == "fermion-pair" and children[0].mass != children[1].mass:
                self.refuse(f"{names}: the law 'fermion-pair' needs two equal masses")
            if vertex.law.name in ("photon-vector", "photon-pseudoscalar") and children[0].mass != 0.0:
                self.refuse(f"{names}: the law {vertex.law.name!r} needs the photon first")
            if vertex.law.name.startswith("leptons-"):
                if children[0].charge == 0 or children[0].mass != children[1].mass or children[0].mass == 0.0:
                    self.refuse(f"{names}: the law {vertex.law.name!r} needs two leptons of one mass first")
                if children[2].mass == 0.0:
                    self.refuse(f"{names}: the law {vertex.law.name!r} needs a third particle with a mass")


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


@dataclass(frozen=True, kw_only=True)
class KnownParticle:
    """What the chain needs to know of a particle of the table: GeV, e, cm."""

    mass: float
    charge: int
    kind: Kind
    ctau: float
    width: float


def known_particle(species: str) -> KnownParticle | None:
    """A particle of the PDG table, or None."""
    if species in NEUTRINOS:
        return KnownParticle(mass=0.0, charge=0, kind="invisible", ctau=math.inf, width=0.0)
    return _table().get(ALIASES.get(species, species))


@functools.cache
def _table() -> dict[str, KnownParticle]:
    """Leptons, bosons and hadrons with a mass, by their PDG and EvtGen names: no quarks, no nuclei."""
    from particle import Particle
    from particle.converters import EvtGenName2PDGIDBiMap
    from particle.exceptions import MatchingIDNotFound

    table: dict[str, KnownParticle] = {}
    for particle in Particle.all():
        number = abs(int(particle.pdgid))
        confined = number <= 8 or number == 21
        nucleus = number > 1_000_000_000
        if particle.mass is None or particle.charge is None or confined or nucleus:
            continue
        width = particle.width or 0.0
        known = KnownParticle(
            mass=particle.mass * 1e-3,
            charge=round(float(particle.charge)),
            kind=KINDS.get(number, "unresolved"),
            # a nominal width of zero is a stable particle; ctau comes in mm
            ctau=0.1 * particle.ctau if particle.ctau is not None and width > 0.0 else math.inf,
            width=width * 1e-3,
        )
        table.setdefault(particle.name, known)
        try:
            table.setdefault(str(EvtGenName2PDGIDBiMap[particle.pdgid]), known)
        except MatchingIDNotFound:
            continue
    return table
