"""What a spec says of a simulated sample: its process, its laws, and which of its particles are found.

From these and a point of the grid come the chain (`chain_of`) and the ways to find the final state in it
(`candidates_of`).
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from modelbuilder.errors import KinematicsError
from modelbuilder.spec.base import Source, SpecModel, refusal, shown
from modelbuilder.spec.experiment import BinnedEfficiency, bins_of
from modelbuilder.spec.functions import EnergyOfMass, LengthOfMass, PositiveEnergyOfMass, RawValue
from modelbuilder.spec.quantities import LENGTH, Fraction, Length, Number, Position, PositiveEnergy, Quantity
from modelbuilder.spec.topology import (
    INITIAL,
    TRACKS,
    Kind,
    Law,
    Topology,
    check_energy,
    decay_threshold,
    known_particle,
    parse_chain,
    visible_places,
)

MOST_LETTERS = 300
MOST_CANDIDATES = 24

_CUTS = "has cuts on its photons; write {{law: {}, min_energy: 0.1 GeV, max_cos: 0.95}}, the values as you need them"
_WITH_NUMBERS = {
    **{name: _CUTS.format(name) for name in ("photon-vector", "three-photons", "two-photons", "leptons-photon")},
    "dipole": "has a number; write {law: dipole, anisotropy: 1}",
    "dark-current": "has a mass; write {law: dark-current, mediator_mass: 3 GeV}",
}


def _check_name_of_law(value: object) -> object:
    if isinstance(value, str) and value in _WITH_NUMBERS:
        reason = f"found {value!r}, which {_WITH_NUMBERS[value]}"
        raise refusal(reason)
    return value


PlainLaw = Literal[
    "phase-space",
    "sine-squared",
    "cosine-squared",
    "resonance",
    "fermion-pair",
    "photon-pseudoscalar",
    "vector-scalar",
    "leptons-vector",
    "leptons-scalar",
    "leptons-pseudoscalar",
    "mixed-leptons-vector",
    "mixed-leptons-scalar",
    "mixed-leptons-pseudoscalar",
    "leptonic",
    "neutral-lepton",
    "vector-to-fermions",
    "vector-to-scalars",
    "vector-hadron",
]
# Productions whose weights are cross sections at lowest order, without a coupling that is not known.
WITH_CROSS_SECTION = ("three-photons", "two-photons", "leptons-photon")


class DipoleLaw(SpecModel):
    """1 + anisotropy cos^2."""

    law: Literal["dipole"] = Field(description="1 + a cos^2")
    anisotropy: Number = Field(description="from -1; 1 is that of a transverse vector into spin 0")


class PhotonLaw(SpecModel):
    """Production of photons whose rate has no bound without cuts on the true photons, in the e+e- frame."""

    law: Literal["photon-vector", "three-photons", "two-photons", "leptons-photon"] = Field(
        description="a law whose photons need cuts, since their rate has no bound"
    )
    min_energy: PositiveEnergy | None = Field(None, description="least energy of a simulated photon, e+e- frame")
    max_cos: Fraction = Field(description="largest |cos| of a simulated photon to the beams, e+e- frame")


class CurrentLaw(SpecModel):
    """chi2 -> chi1 l- l+ through a heavy dark photon."""

    law: Literal["dark-current"] = Field(description="chi2 -> chi1 l l by a vector that is far off its mass shell")
    mediator_mass: PositiveEnergyOfMass = Field(description="mass of the dark photon, with its unit")


class VectorLaw(SpecModel):
    """e+e- -> A' h', where the particle table does not know which of the two is the vector."""

    law: Literal["vector-scalar"] = Field(description="a vector and a scalar from e+ e-")
    vector: str = Field(description="the particle of spin 1; the other has spin 0")


def _kind_of_law(value: object) -> str:
    if isinstance(value, str):
        return "the name of a law"
    name = value.get("law") if isinstance(value, dict) else getattr(value, "law", "")
    kinds = {"dipole": "a dipole", "dark-current": "a current", "vector-scalar": "a vector"}
    return kinds.get(str(name), "a law of photons")


LawChoice = Annotated[
    Annotated[PlainLaw, BeforeValidator(_check_name_of_law), Tag("the name of a law")]
    | Annotated[DipoleLaw, Tag("a dipole")]
    | Annotated[PhotonLaw, Tag("a law of photons")]
    | Annotated[CurrentLaw, Tag("a current")]
    | Annotated[VectorLaw, Tag("a vector")],
    Discriminator(_kind_of_law),
]


class Simulated(SpecModel):
    """A process to simulate."""

    process: str = Field(
        description="the decay chain, as in `e+ e- -> mu+ mu- Zp, Zp -> invisible`",
        examples=["e+ e- -> gamma a, a -> gamma gamma"],
        json_schema_extra={"pattern": r"^\s*e[+] e-\s*->\s*\S.*$"},
    )
    laws: dict[str, LawChoice] = Field(
        default_factory=dict,
        description="how the products of a particle, or of `e+ e-`, are distributed, where the default is not meant",
    )
    masses: dict[str, EnergyOfMass] = Field(
        default_factory=dict, description="of the hypothetical particles that are not on the grid"
    )
    lifetimes: dict[str, LengthOfMass] = Field(
        default_factory=dict, description="c tau of particles that fly before they decay; 0 is a prompt decay"
    )
    narrow: list[str] = Field(
        default_factory=list, description="known particles whose width is neglected, such as [phi]"
    )
    taken_for: dict[str, str] = Field(
        default_factory=dict, description="tracks that are taken for others, such as {pi+: mu+}"
    )
    radiation: Literal["none"] | None = Field(
        None, description="none: the beams do not radiate before this process, whose law has the photons in it"
    )

    @model_validator(mode="after")
    def _readable(self) -> Simulated:
        if self.process.split("->")[0].split() != INITIAL.split():
            reason = f"found {shown(self.process)}; a process begins with the collision, as in 'e+ e- -> gamma a'"
            raise refusal(reason, ("process",))
        if len(self.process) > MOST_LETTERS:
            reason = f"found {len(self.process)} letters; at most {MOST_LETTERS}"
            raise refusal(reason, ("process",))
        return self


class Lifetimes(SpecModel):
    """The lifetimes that limits are found at, for each mass."""

    of: str = Field(description="the particle that flies, as in the process")
    values: list[Length] = Field(min_length=1, max_length=100, description="c tau, rising; 0 is a prompt decay")
    shape_at: Length | None = Field(
        None,
        description="one fit at each mass, with the shape at this c tau, and only the efficiency follows the lifetime; "
        "without it a fit at each lifetime",
    )
    source: Source

    @model_validator(mode="after")
    def _rises(self) -> Lifetimes:
        if any(two <= one for one, two in itertools.pairwise(self.values)):
            reason = "found values that do not rise; write them in rising order"
            raise refusal(reason, ("values",))
        if self.shape_at is not None and self.shape_at not in self.values:
            reason = "found a c tau that is none of `values`; take one of them, so that a row says what was fitted"
            raise refusal(reason, ("shape_at",))
        if self.shape_at is not None and self.values[0] == 0.0:
            reason = "a prompt decay has no weights that turn it into another; with shape_at every c tau is above 0"
            raise refusal(reason, ("values", 0))
        return self

    @property
    def usual(self) -> float:
        """c tau of the shape, or the longest one; cm."""
        return self.values[-1] if self.shape_at is None else self.shape_at


class VertexEfficiency(SpecModel):
    """Efficiency as a function of the distance of the decay from the detector axis; linear between the points."""

    rho: list[Length] = Field(min_length=2, description="distances from the detector axis, rising")
    value: list[Fraction] = Field(
        min_length=2, description="efficiency at these distances; linear between, constant beyond"
    )
    source: Source

    @model_validator(mode="after")
    def _a_function(self) -> VertexEfficiency:
        if len(self.rho) != len(self.value):
            reason = f"found {len(self.rho)} of rho and {len(self.value)} of value; each rho needs one value"
            raise refusal(reason)
        if any(two <= one for one, two in itertools.pairwise(self.rho)):
            reason = "found a rho that does not rise; write them in rising order"
            raise refusal(reason, ("rho",))
        return self


class VertexTable(SpecModel):
    """Efficiency in bins of the distance from the detector axis and of z of the decay; beyond, that of the nearest bin."""

    table: dict[str, list[RawValue]] = Field(
        description="one list per column, one entry per bin: rho_low, rho_high, z_low, z_high, value"
    )
    source: Source

    @model_validator(mode="after")
    def _tiles(self) -> VertexTable:
        self.binned()
        return self

    def binned(self) -> BinnedEfficiency:
        """Edges (cm) and values of the bins."""
        return bins_of(self.table, ("rho", "z"), (Quantity(LENGTH, low=0.0), Quantity(LENGTH)))


def _kind_of_vertex_efficiency(value: object) -> str:
    keys = value if isinstance(value, dict) else getattr(value, "model_fields_set", ())
    return "bins" if "table" in keys or "csv" in keys else "points"


EfficiencyOfVertex = Annotated[
    Annotated[VertexEfficiency, Tag("points")] | Annotated[VertexTable, Tag("bins")],
    Discriminator(_kind_of_vertex_efficiency),
]


class Vertex(SpecModel):
    """Where a decay must be found, in cylinder coordinates of the laboratory, and how well it is."""

    rho: tuple[Length, Length] | None = Field(None, description="range of the distance from the detector axis")
    z: tuple[Position, Position] | None = Field(None, description="range along the detector axis")
    resolution: Length = Field(0.0, description="standard deviation of each coordinate of the decay point")
    efficiency: EfficiencyOfVertex | None = Field(None, description="points in rho, or a table in rho and z")
    source: Source

    @model_validator(mode="after")
    def _ordered(self) -> Vertex:
        for name, found in (("rho", self.rho), ("z", self.z)):
            if found is not None and found[0] >= found[1]:
                reason = "found the lower end at or above the upper end; write [low, high]"
                raise refusal(reason, (name,))
        return self


class FinalState(SpecModel):
    """The particles that are looked for in each event. Without it: all visible ones of the signal."""

    found: list[str] = Field(min_length=1, max_length=12, description="such as [mu+, mu-]; a name may stand twice")
    vetoed: list[Literal["photons", "tracks"]] = Field(
        default_factory=list, description="nothing else of this kind may be found"
    )
    vertices: dict[str, Vertex] = Field(
        default_factory=dict, description="by name of a particle that decays; for the samples that have it"
    )


@dataclass(frozen=True)
class Candidate:
    """One way to find the final state in a chain.

    seen: place of a particle in the chain, and the name that it is found under, in the order of the chain.
    vetoed: places of those that must not be found.
    """

    seen: tuple[tuple[int, str], ...]
    vetoed: tuple[int, ...]


def hypotheses(process: str) -> list[str]:
    """The particles of a process that are in no table, in the order of the text."""
    words = process.replace(",", " ").split()
    unknown = (word for word in words if word not in ("->", "invisible") and known_particle(word) is None)
    return list(dict.fromkeys(unknown))


def needs_photon_cuts(sample: Simulated) -> bool:
    """Whether a process is e+ e- -> gamma gamma gamma without cuts on the simulated photons: they follow from the search."""
    products = sample.process.split(",")[0].split("->")[-1].split()
    return products == ["gamma"] * 3 and INITIAL not in sample.laws


def chain_of(
    sample: Simulated,
    point: Mapping[str, float],
    *,
    sqrt_s: float,
    law: str | None = None,
    photon_cuts: tuple[float, float] = (0.1, 0.99),
    lifetimes: Lifetimes | None = None,
    ctau: float | None = None,
) -> Topology:
    """The chain of a sample at a point of the grid (GeV); KinematicsError with the reason if it is not possible.

    The mass of X is `m_X` of the grid, or that of `masses`. law: of the production, where `laws` names none.
    photon_cuts: least energy, GeV, and largest |cos| of simulated photons, for a process that `needs_photon_cuts`.
    lifetimes, ctau: of the particle whose lifetime is scanned, and its c tau, cm; the usual one without it.
    """
    masses = {name: mass.at(point) for name, mass in sample.masses.items()}
    for name in hypotheses(sample.process):
        if f"m_{name}" in point and name in masses:
            msg = f"the mass of {name} is given, but it is m_{name} of the grid"
            raise KinematicsError(msg)
        if f"m_{name}" in point:
            masses[name] = point[f"m_{name}"]
    laws = {name: _law(choice, point) for name, choice in sample.laws.items()}
    if needs_photon_cuts(sample):
        laws[INITIAL] = Law(name="three-photons", min_energy=photon_cuts[0], max_cos=photon_cuts[1])
    if law is not None:
        laws.setdefault(INITIAL, Law(name=law))
    ctaus = {name: length.at(point) for name, length in sample.lifetimes.items()}
    if lifetimes is not None:
        if lifetimes.of in ctaus:
            msg = f"the lifetime of {lifetimes.of} is given, but it is scanned"
            raise KinematicsError(msg)
        ctaus[lifetimes.of] = lifetimes.usual if ctau is None else ctau
    topology = _without_widths(parse_chain(sample.process, masses=masses, ctaus=ctaus, laws=laws), sample.narrow)
    check_energy(topology, sqrt_s)
    return topology


def _without_widths(topology: Topology, species: list[str]) -> Topology:
    """The chain with these species at their nominal masses; KinematicsError where that is not possible."""
    wide = {node.species for node in topology.nodes if node.width > 0.0}
    for name in species:
        if name not in wide:
            there = ", ".join(sorted(wide)) or "none"
            msg = f"{topology.text}: {name} has no width that could be neglected; particles with one: {there}"
            raise KinematicsError(msg)
    if not species:
        return topology
    nodes = (replace(node, width=0.0) if node.species in species else node for node in topology.nodes)
    narrowed = replace(topology, nodes=tuple(nodes))
    for vertex in narrowed.vertices[1:]:
        parent, least = narrowed.nodes[vertex.parent], decay_threshold(narrowed, vertex)
        most = narrowed.mass_range(vertex.parent)[1]
        if least >= most:
            msg = f"{topology.text}: without widths {parent.species} has {most:.6g} GeV, its products {least:.6g} GeV"
            raise KinematicsError(msg)
    return narrowed


_FIXED_MASSES = ("leptonic", "neutral-lepton", "dark-current", "three-photons", "leptons-photon")


def check_law_numbers(topology: Topology, *, sqrt_s: float, isr: bool) -> None:
    """KinematicsError for what the simulation refuses of a chain that can be read: widths, and cuts on photons."""
    first = topology.vertices[0]
    for vertex in topology.vertices:
        name = vertex.law.name
        if name not in _FIXED_MASSES and "leptons-" not in name:
            continue
        for place in (vertex.parent, *vertex.children):
            node = topology.nodes[place]
            if place > 0 and node.width > 0.0:
                msg = (
                    f"{topology.text}: the law {name!r} needs fixed masses, but that of {node.species} has a width; write"
                    f" `narrow: [{node.species}]` to neglect it"
                )
                raise KinematicsError(msg)
    law, nodes = first.law, [topology.nodes[child] for child in first.children]
    if law.max_cos is None:
        return
    most = (sqrt_s**2 - nodes[1].mass ** 2) / (2.0 * sqrt_s)  # two particles: that of the photon
    if law.name == "leptons-photon":
        most = 0.5 * (sqrt_s - 4.0 * nodes[0].mass ** 2 / sqrt_s)
    elif law.name == "three-photons":
        most = sqrt_s / 3.0
    if law.min_energy >= most:
        softest = "the softest photon" if law.name == "three-photons" else "the photon"
        msg = f"{topology.text}: min_energy is {law.min_energy:g} GeV, but {softest} has at most {most:.4g} GeV"
        raise KinematicsError(msg)
    if isr and law.min_energy == 0.0:
        msg = f"with radiation of the beams the law {law.name!r} needs a min_energy of its photons"
        raise KinematicsError(msg)
    if isr and law.max_cos == 1.0:
        msg = (
            f"with radiation of the beams the law {law.name!r} needs a max_cos below 1; photons along the beams would be"
            " counted twice, by the law and by the radiation"
        )
        raise KinematicsError(msg)


def _law(choice: LawChoice, point: Mapping[str, float]) -> Law:
    if isinstance(choice, str):
        return Law(name=choice)
    if isinstance(choice, DipoleLaw):
        return Law(name=choice.law, parameter=choice.anisotropy)
    if isinstance(choice, CurrentLaw):
        return Law(name=choice.law, parameter=choice.mediator_mass.at(point))
    if isinstance(choice, VectorLaw):
        return Law(name=choice.law, vector=choice.vector)
    return Law(name=choice.law, min_energy=choice.min_energy or 0.0, max_cos=choice.max_cos)


def brings_cross_section(topology: Topology) -> bool:
    """Whether the weights of the chain are cross sections at lowest order, with no unknown coupling in them."""
    return topology.vertices[0].law.name in WITH_CROSS_SECTION


def seen_kinds(topology: Topology, taken_for: Mapping[str, str]) -> dict[str, Kind]:
    """What the visible particles are taken for where it is not what they are, by name of the node.

    KinematicsError if a particle is not there, is no track, or changes its charge.
    """
    kinds: dict[str, Kind] = {}
    nodes = [topology.nodes[place] for place in visible_places(topology)]
    for name, other in taken_for.items():
        found = [node for node in nodes if name in (node.species, node.name)]
        if not found:
            there = ", ".join(node.name for node in nodes) or "nothing"
            msg = f"{topology.text}: there is no visible {name}; visible are {there}"
            raise KinematicsError(msg)
        known = known_particle(other)
        if known is None or known.kind not in TRACKS:
            msg = f"{topology.text}: {name} is taken for {other}, which is no track; tracks are e, mu, pi, K and p"
            raise KinematicsError(msg)
        for node in found:
            if node.kind not in TRACKS or node.charge != known.charge:
                msg = (
                    f"{topology.text}: {name} cannot be taken for {other}: only tracks can, for one of the same charge"
                )
                raise KinematicsError(msg)
            kinds[node.name] = known.kind
    return kinds


def default_final_state(topology: Topology, taken_for: Mapping[str, str]) -> FinalState:
    """All that is visible of a signal, under the names that it is taken for."""
    names = [topology.nodes[place].name for place in visible_places(topology)]
    found = [taken_for.get(name, taken_for.get(name.split("[")[0], name.split("[")[0])) for name in names]
    return FinalState(found=found or ["nothing"])


def candidates_of(
    topology: Topology, final_state: FinalState | None, taken_for: Mapping[str, str]
) -> tuple[Candidate, ...]:
    """All ways to find the final state in a chain; KinematicsError if there is none.

    Without a final state there is one: all that is visible.
    """
    seen_kinds(topology, taken_for)
    places = visible_places(topology)
    names = {place: _seen_name(topology, place, taken_for) for place in places}
    if final_state is None:
        if not places:
            msg = f"{topology.text}: nothing of it is visible"
            raise KinematicsError(msg)
        return (Candidate(tuple(names.items()), ()),)
    options = []
    for name, number in Counter(final_state.found).items():
        found = [place for place in places if names[place] == name]
        if len(found) < number:
            there = ", ".join(names.values()) or "nothing"
            msg = f"{topology.text}: the final state has {number} {name}, but visible are {there}"
            raise KinematicsError(msg)
        options.append(list(itertools.combinations(found, number)))
    candidates = []
    for choice in itertools.islice(itertools.product(*options), MOST_CANDIDATES + 1):
        chosen = {place for group in choice for place in group}
        others = [place for place in places if place not in chosen]
        vetoed = tuple(place for place in others if _class_of(topology.nodes[place].kind) in final_state.vetoed)
        candidates.append(Candidate(tuple((p, names[p]) for p in places if p in chosen), vetoed))
    if len(candidates) > MOST_CANDIDATES:
        msg = f"{topology.text}: the final state can be found in more than {MOST_CANDIDATES} ways; name more of it"
        raise KinematicsError(msg)
    return tuple(candidates)


def _class_of(kind: Kind) -> str:
    return "photons" if kind == "photon" else "tracks"


def _seen_name(topology: Topology, place: int, taken_for: Mapping[str, str]) -> str:
    node = topology.nodes[place]
    return taken_for.get(node.name, taken_for.get(node.species, node.species))
