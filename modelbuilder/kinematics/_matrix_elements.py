"""Squared matrix elements and angular laws of the processes, as scalar functions that vectorise.

Arithmetic and square roots, no branches, so that the loop of a generator stays a
vector loop. Four-momenta are tuples (E, px, py, pz), GeV, in the e+e- rest frame with the electron along +z; those of
decays may be in any frame. A squared matrix element is summed over the final spins and averaged over the initial
ones. Couplings are left out; each docstring says which. `mass` is that of the lepton. The test evaluates every one of
them with explicit Dirac matrices.

The traces were done by computer algebra and then simplified by hand; where no paper is named there is none to name.
"""

import math

from modelbuilder.kinematics._compile import inlined

Momentum = tuple[float, float, float, float]
Vector = tuple[float, float, float]


@inlined
def dot(a: Momentum, b: Momentum) -> float:
    """Minkowski product, GeV^2."""
    return a[0] * b[0] - a[1] * b[1] - a[2] * b[2] - a[3] * b[3]


@inlined
def across(a: Momentum, b: Momentum) -> float:
    """Product of the components transverse to the beam, GeV^2."""
    return a[1] * b[1] + a[2] * b[2]


# ---------------------------------------------------------------------------------------------------------------------
# e+e- -> gamma* -> l- l+ X, X radiated by a lepton of the final state
#
# With D1 = m_X^2 + 2 p1.k, D2 = m_X^2 + 2 p2.k the current tensor, summed over spins, is
#     H^{ij} = delta^{ij} W0 + W11 p1^i p1^j + W22 p2^i p2^j + W12 (p1^i p2^j + p2^i p1^j)
# in the e+e- frame; massless electrons give the two polarisations x and y of the photon.


@inlined
def vector_current(
    s: float, d1: float, d2: float, p11: float, p22: float, p12: float, mass2: float, x_mass2: float
) -> float:
    """H^{xx} + H^{yy} of gamma* -> l- l+ V for the vertex gamma^nu; GeV^2/GeV^2, without e and coupling.

    s: of the virtual photon.    d1, d2: D1 and D2.    p11, p22, p12: transverse p1.p1, p2.p2, p1.p2.
    x_mass2 = 0 is a photon. W0 = 4 [(s-D1)^2 + (s-D2)^2 + 4 m_V^2 s]/(D1 D2) - 4 kappa s (1/D1 + 1/D2)^2,
    kappa = m_V^2 + 2 m^2.
    """
    kappa = x_mass2 + 2.0 * mass2
    inverse = 1.0 / (d1 * d2)
    one = (s - d1) * (s - d1) + (s - d2) * (s - d2) + 4.0 * x_mass2 * s - 2.0 * s * (p11 + p22)
    both = d1 * d1 * p11 + d2 * d2 * p22 - 2.0 * d1 * d2 * p12
    two = 2.0 * both - s * (d1 + d2) * (d1 + d2)
    return 8.0 * inverse * (one + kappa * inverse * two)


@inlined
def scalar_current(s: float, d1: float, d2: float, p11: float, p22: float, p12: float, kappa: float) -> float:
    """H^{xx} + H^{yy} of gamma* -> l- l+ X; arguments as `vector_current`.

    kappa: m_X^2 - 4 m^2 for a scalar (vertex 1), m_X^2 for a pseudoscalar (vertex i gamma5).
    """
    inverse = 1.0 / (d1 * d2)
    one = (d1 + d2) * (d1 + d2) - 2.0 * s * (p11 + p22 + 2.0 * p12)
    both = d1 * d1 * p11 + d2 * d2 * p22 - 2.0 * d1 * d2 * p12
    two = 2.0 * both - s * (d1 + d2) * (d1 + d2)
    return 4.0 * inverse * (one + kappa * inverse * two)


@inlined
def cross(a: Vector, b: Vector) -> Vector:
    """a x b."""
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@inlined
def product3(a: Vector, b: Vector) -> float:
    """a . b."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@inlined
def vector_current_along(
    d1: float, d2: float, p1: Momentum, p2: Momentum, k: Momentum, eps: Momentum, mass2: float
) -> float:
    """`vector_current` for one linear polarisation eps of V(k), eps.k = 0 and eps.eps = -1, instead of the sum of three.

    By two-component spinors: the mass drops out of the vertex, which is i = E sigma_i + S1 sigma_i/D1 + sigma_i S2/D2 with
    E = 2 eps.p1/D1 - 2 eps.p2/D2, S1 = (A - iB).sigma, S2 = -(A + iB).sigma, A = eps^0 k - k^0 eps, B = eps x k.
    """
    electric = 2.0 * (dot(eps, p1) / d1 - dot(eps, p2) / d2)
    g = 1.0 / d1 - 1.0 / d2
    h = 1.0 / d1 + 1.0 / d2
    own = (eps[1], eps[2], eps[3])
    flight = (k[1], k[2], k[3])
    a = (
        eps[0] * k[1] - k[0] * eps[1],
        eps[0] * k[2] - k[0] * eps[2],
        eps[0] * k[3] - k[0] * eps[3],
    )
    b = cross(own, flight)
    x = spinor_current(electric, g, h, a, b, (1.0, 0.0, 0.0), p1, p2, mass2)
    y = spinor_current(electric, g, h, a, b, (0.0, 1.0, 0.0), p1, p2, mass2)
    return x + y


@inlined
def spinor_current(
    electric: float, g: float, h: float, a: Vector, b: Vector, axis: Vector, p1: Momentum, p2: Momentum, mass2: float
) -> float:
    """|ubar(p1) Gamma v(p2)|^2 summed over spins, for a virtual photon polarised along `axis`.

    Gamma has the blocks X = c + id + (u + iv).sigma and c - id - (u - iv).sigma; the rest are traces of 2 x 2 matrices.
    """
    c = g * product3(a, axis)
    d = -h * product3(b, axis)
    turned = cross(b, axis)
    u = (electric * axis[0] + g * turned[0], electric * axis[1] + g * turned[1], electric * axis[2] + g * turned[2])
    turned = cross(a, axis)
    v = (h * turned[0], h * turned[1], h * turned[2])
    one = (p1[1], p1[2], p1[3])
    two = (p2[1], p2[2], p2[3])
    uv = cross(u, v)
    u2 = product3(u, u)
    v2 = product3(v, v)
    scalar = c * c + d * d
    r = (c * u[0] + d * v[0], c * u[1] + d * v[1], c * u[2] + d * v[2])
    turned = cross(two, (d * u[0] - c * v[0], d * u[1] - c * v[1], d * u[2] - c * v[2]))
    along_u = product3(two, u)
    along_v = product3(two, v)
    q0 = p2[0] * (scalar + u2 + v2) + 2.0 * (product3(r, two) - product3(two, uv))
    rest = scalar - u2 - v2
    q = (
        2.0 * (p2[0] * (r[0] + uv[0]) + u[0] * along_u + v[0] * along_v - turned[0]) + rest * two[0],
        2.0 * (p2[0] * (r[1] + uv[1]) + u[1] * along_u + v[1] * along_v - turned[1]) + rest * two[1],
        2.0 * (p2[0] * (r[2] + uv[2]) + u[2] * along_u + v[2] * along_v - turned[2]) + rest * two[2],
    )
    return 4.0 * (p1[0] * q0 + product3(one, q)) - 4.0 * mass2 * (c * c - d * d - u2 + v2)


@inlined
def ll_vector(s: float, p1: Momentum, p2: Momentum, k: Momentum, mass: float, x_mass: float) -> float:
    """|M|^2 of e+e- -> l-(p1) l+(p2) V(k) in units of e^4 g^2, L = g lbar gamma^mu l V_mu; GeV^-2.

    Massless electrons, as in all of this part.
    """
    x_mass2 = x_mass * x_mass
    d1 = x_mass2 + 2.0 * dot(p1, k)
    d2 = x_mass2 + 2.0 * dot(p2, k)
    current = vector_current(s, d1, d2, across(p1, p1), across(p2, p2), across(p1, p2), mass * mass, x_mass2)
    return current / (2.0 * s)


@inlined
def ll_scalar(s: float, p1: Momentum, p2: Momentum, k: Momentum, mass: float, x_mass: float) -> float:
    """|M|^2 of e+e- -> l-(p1) l+(p2) S(k) in units of e^4 y^2, L = y lbar l S; GeV^-2. Massless electrons."""
    x_mass2 = x_mass * x_mass
    d1 = x_mass2 + 2.0 * dot(p1, k)
    d2 = x_mass2 + 2.0 * dot(p2, k)
    kappa = x_mass2 - 4.0 * mass * mass
    return scalar_current(s, d1, d2, across(p1, p1), across(p2, p2), across(p1, p2), kappa) / (2.0 * s)


@inlined
def ll_pseudoscalar(s: float, p1: Momentum, p2: Momentum, k: Momentum, mass: float, x_mass: float) -> float:
    """|M|^2 of e+e- -> l-(p1) l+(p2) P(k) in units of e^4 y^2, L = i y lbar gamma5 l P; GeV^-2. Massless electrons.

    The lepton mass enters through the momenta only: gamma5 anticommutes it away.
    """
    x_mass2 = x_mass * x_mass
    d1 = x_mass2 + 2.0 * dot(p1, k)
    d2 = x_mass2 + 2.0 * dot(p2, k)
    return scalar_current(s, d1, d2, across(p1, p1), across(p2, p2), across(p1, p2), x_mass2) / (2.0 * s)


# ---------------------------------------------------------------------------------------------------------------------
# The same with a vertex that turns one lepton into another: e+e- -> gamma* -> e- mu+ X and e+ mu- X
#
# Only these two diagrams: the photon makes a pair of one flavour, one of which radiates X and becomes the other. They
# are gauge invariant. But where a vertex e mu X exists, a photon may also be exchanged between the beams, with
# e- -> mu- X on one line, which the acceptance of the searches suppresses and does not forbid; that is not in it. They
# limit efficiency times cross section without a model, so take this for shapes, not for rates.


@inlined
def emu_scalar(s: float, p1: Momentum, p2: Momentum, k: Momentum, mass1: float, mass2: float, x_mass: float) -> float:
    """|M|^2 of e+e- -> l1-(p1) l2+(p2) S(k) in units of e^4 y^2, L = y lbar1 l2 S + h.c., annihilation; GeV^-2.

    mass2 with the other sign is the pseudoscalar, i y lbar1 gamma5 l2. D1 = (p1 + k)^2 - m2^2, D2 = (p2 + k)^2 - m1^2.
    """
    x_mass2 = x_mass * x_mass
    gap = mass1 * mass1 - mass2 * mass2
    d1 = x_mass2 + 2.0 * dot(p1, k) + gap
    d2 = x_mass2 + 2.0 * dot(p2, k) - gap
    kappa = x_mass2 - (mass1 + mass2) * (mass1 + mass2)
    return scalar_current(s, d1, d2, across(p1, p1), across(p2, p2), across(p1, p2), kappa) / (2.0 * s)


@inlined
def emu_vector(s: float, p1: Momentum, p2: Momentum, k: Momentum, mass1: float, mass2: float, x_mass: float) -> float:
    """|M|^2 of e+e- -> l1-(p1) l2+(p2) V(k) in units of e^4 g^2, L = g lbar1 gamma^mu l2 V_mu + h.c.; GeV^-2.

    The current is not conserved: longitudinal V give (m1 - m2)^2/m_V^2 times `emu_scalar`.
    """
    x_mass2 = x_mass * x_mass
    gap = mass1 * mass1 - mass2 * mass2
    d1 = x_mass2 + 2.0 * dot(p1, k) + gap
    d2 = x_mass2 + 2.0 * dot(p2, k) - gap
    p11, p22, p12 = across(p1, p1), across(p2, p2), across(p1, p2)
    split2 = (mass1 - mass2) * (mass1 - mass2)
    mean2 = 0.5 * (2.0 * mass1 * mass2 - split2)  # m^2 for m1 = m2
    transverse = vector_current(s, d1, d2, p11, p22, p12, mean2, x_mass2) - 32.0 * split2 * s / (d1 * d2)
    along = scalar_current(s, d1, d2, p11, p22, p12, x_mass2 - (mass1 + mass2) * (mass1 + mass2))
    return (transverse + split2 / x_mass2 * along) / (2.0 * s)


# ---------------------------------------------------------------------------------------------------------------------
# e+e- -> l- l+ gamma


@inlined
def beam_products(s: float, k: Momentum, electron_mass: float) -> tuple[float, float]:
    """p_- . k and p_+ . k of a photon, without loss of digits along the beams; GeV^2."""
    half = 0.5 * math.sqrt(s)
    tiny = electron_mass * electron_mass / (half * half)
    beta = math.sqrt(1.0 - tiny)
    omega = k[0]
    c = k[3] / omega
    # (1 - beta c)(1 + beta c), from the transverse momentum
    product = across(k, k) / (omega * omega) + c * c * tiny
    far = 1.0 + beta * abs(c)
    near = product / far
    minus = near if c > 0.0 else far
    plus = far if c > 0.0 else near
    return half * omega * minus, half * omega * plus


@inlined
def radiated_by_beams(
    s: float, q1: Momentum, q2: Momentum, k: Momentum, mass: float, electron_mass: float, a: float, b: float
) -> float:
    """|M|^2 in units of e^6 of the two diagrams with the photon from the beams, exact in both masses; GeV^-2.

    a, b: `beam_products`. The tensor of the electrons is that of `vector_current`, crossed: p1 -> -p_+, p2 -> -p_-.
    """
    half = 0.5 * math.sqrt(s)
    me2 = electron_mass * electron_mass
    momentum = math.sqrt(half * half - me2)
    pair = s - 2.0 * (a + b)
    mass2 = mass * mass
    d1 = -2.0 * b
    d2 = -2.0 * a
    inverse = 1.0 / (d1 * d2)
    kappa = 2.0 * me2
    sum2 = (d1 + d2) * (d1 + d2)
    w0 = 4.0 * inverse * ((pair - d1) * (pair - d1) + (pair - d2) * (pair - d2) - kappa * inverse * pair * sum2)
    w11 = 16.0 * inverse * (kappa * inverse * d1 * d1 - pair)
    w22 = 16.0 * inverse * (kappa * inverse * d2 * d2 - pair)
    w12 = -16.0 * kappa * inverse
    m1 = half * q1[0] - momentum * q1[3]  # p_- . q1
    m2 = half * q2[0] - momentum * q2[3]
    n1 = half * q1[0] + momentum * q1[3]  # p_+ . q1
    n2 = half * q2[0] + momentum * q2[3]
    # contractions with q1^mu q2^nu + q2^mu q1^nu - g^{mu nu} s'/2, and 4/4 of its factor and the spin average
    t0 = pair + 2.0 * mass2
    t11 = 2.0 * n1 * n2 - 0.5 * me2 * pair
    t22 = 2.0 * m1 * m2 - 0.5 * me2 * pair
    t12 = n1 * m2 + n2 * m1 - 0.5 * (0.5 * s - me2) * pair
    return (w0 * t0 + w11 * t11 + w22 * t22 + 2.0 * w12 * t12) / (pair * pair)


@inlined
def ll_gamma_initial(s: float, q1: Momentum, q2: Momentum, k: Momentum, mass: float, electron_mass: float) -> float:
    """|M|^2 of e+e- -> l-(q1) l+(q2) gamma(k) in units of e^6, radiation of the beams only; GeV^-2.

    For l = e it is the annihilation part with initial radiation: the exchange of a photon between the electrons
    (radiative Bhabha scattering), which dominates e e gamma, is not in it.
    """
    a, b = beam_products(s, k, electron_mass)
    return radiated_by_beams(s, q1, q2, k, mass, electron_mass, a, b)


@inlined
def ll_gamma(s: float, q1: Momentum, q2: Momentum, k: Momentum, mass: float, electron_mass: float) -> float:
    """|M|^2 of e+e- -> l-(q1) l+(q2) gamma(k) in units of e^6, l not e: all four diagrams; GeV^-2.

    Exact in the lepton mass. The electron mass is exact where the beams radiate, which is where it matters, and absent
    from the radiation of the leptons and from the interference. For m = 0 it is, with J = p+/(p+.k) - p-/(p-.k)
    + q1/(q1.k) - q2/(q2.k), (t^2 + t'^2 + u^2 + u'^2)/(s s') (-J.J): Berends, Kleiss, De Causmaecker, Gastmans, Troost,
    Wu, Nucl. Phys. B 206 (1982) 61, recalled; the test compares with Dirac matrices.
    """
    a, b = beam_products(s, k, electron_mass)
    initial = radiated_by_beams(s, q1, q2, k, mass, electron_mass, a, b)
    c = dot(q1, k)
    d = dot(q2, k)
    mass2 = mass * mass
    current = vector_current(s, 2.0 * c, 2.0 * d, across(q1, q1), across(q2, q2), across(q1, q2), mass2, 0.0)
    final = current / (2.0 * s)
    # interference
    half = 0.5 * math.sqrt(s)
    m1 = half * (q1[0] - q1[3])
    m2 = half * (q2[0] - q2[3])
    n1 = half * (q1[0] + q1[3])
    n2 = half * (q2[0] + q2[3])
    pair = s - 2.0 * (a + b)
    squares = m1 * m1 + m2 * m2 + n1 * n1 + n2 * n2 + 0.5 * mass2 * (s + pair)
    currents = (n1 * d - n2 * c) * a - (m1 * d - m2 * c) * b  # J_e . J_q times a b c d
    rest = (a - b) * (c - d) - (a + b) * (m1 + n2 - m2 - n1)
    mixed = -8.0 * (currents * squares + mass2 * a * b * rest) / (a * b * c * d * s * pair)
    return initial + final + mixed


# ---------------------------------------------------------------------------------------------------------------------
# Angular laws of two-body final states; densities in cos(theta), normalised to 1 on (-1, 1)


@inlined
def gamma_vector_law(s: float, cosine: float, x_mass: float) -> float:
    """dsigma/dcos of e+e- -> gamma A' for massless electrons, in units of 2 pi alpha^2 eps^2/s; cos of the photon.

    (1 - x)[1 + c^2 + 4x/(1 - x)^2]/(1 - c^2), x = m^2/s. Not normalised: without a cut on c it has no integral.
    Physics notes, section 7c.
    """
    x = x_mass * x_mass / s
    c2 = cosine * cosine
    return (1.0 - x) * (1.0 + c2 + 4.0 * x / ((1.0 - x) * (1.0 - x))) / (1.0 - c2)


@inlined
def gamma_vector(s: float, near: float, far: float, x_mass: float, electron_mass: float) -> float:
    """|M|^2 of e+e- -> gamma A' in units of e^4 eps^2, exact in the electron mass; dimensionless.

    near, far: p_- . k and p_+ . k of the photon as from `beam_products`. With t = -2 near, u = -2 far, M = m_A':
    2 [t^2 + u^2 + 2 s (M^2 + 2 m^2)]/(t u) - 4 m^2 (M^2 + 2 m^2) (1/t + 1/u)^2.
    """
    t = -2.0 * near
    u = -2.0 * far
    m2 = electron_mass * electron_mass
    x2 = x_mass * x_mass
    both = 1.0 / t + 1.0 / u
    kappa = x2 + 2.0 * m2
    return 2.0 * ((t * t + u * u + 2.0 * s * kappa) / (t * u) - 2.0 * m2 * kappa * both * both)


@inlined
def higgs_vector_law(s: float, cosine: float, x_mass: float, h_mass: float) -> float:
    """Density of cos(theta) of A' in e+e- -> A' h': lam sin^2 + 8 m_A'^2/s over 4/3 (lam + 12 m_A'^2/s).

    lam = lambda(1, m_A'^2/s, m_h'^2/s). Source: Batell, Pospelov, Ritz, arXiv:0903.0363; the form of e+e- -> Z h.
    """
    y = x_mass * x_mass / s
    x = h_mass * h_mass / s
    lam = (1.0 - x - y) * (1.0 - x - y) - 4.0 * x * y
    return (lam * (1.0 - cosine * cosine) + 8.0 * y) / (4.0 / 3.0 * (lam + 12.0 * y))


@inlined
def vector_to_leptons_law(cosine: float, ratio: float, longitudinal: float) -> float:
    """Density of cos(theta) of l- in V -> l- l+, to the axis of the spin of V, in the rest frame of V.

    ratio: m_l^2/m_V^2.    longitudinal: probability of helicity 0 on that axis, 1/3 for an unpolarised V, 0 for
    helicities +1 and -1 (a virtual photon on the beam axis); the two of those equal or summed over charge. 1 + c^2 +
    4 r sin^2 and sin^2 + 4 r c^2, vector coupling.
    """
    c2 = cosine * cosine
    transverse = 0.375 * (1.0 + c2 + 4.0 * ratio * (1.0 - c2)) / (1.0 + 2.0 * ratio)
    along = 0.75 * (1.0 - c2 + 4.0 * ratio * c2) / (1.0 + 2.0 * ratio)
    return transverse + longitudinal * (along - transverse)


@inlined
def vector_to_scalars_law(cosine: float, longitudinal: float) -> float:
    """Density of cos(theta) of one scalar in V -> P P, to the axis of the spin of V: 3/4 sin^2, 3/2 cos^2.

    longitudinal = 1 is K* -> K pi in B -> K* X with X spinless, on the axis of the flight of K* in the B frame:
    angular momentum along that axis is 0. Also A' -> pi pi, rho -> pi pi, and A' -> two dark scalars.
    """
    c2 = cosine * cosine
    transverse = 0.75 * (1.0 - c2)
    return transverse + longitudinal * (1.5 * c2 - transverse)


# ---------------------------------------------------------------------------------------------------------------------
# Decays


@inlined
def vector_to_fermions(along: float, mass: float, mass1: float, mass2: float) -> float:
    """|M|^2 of V(eps) -> f1 f2 in units of g^2, V linearly polarised; L = g fbar1 gamma^mu f2 V_mu; GeV^2.

    along: eps . p1, the component of the momentum of f1 on the unit polarisation vector, in the rest frame of V.
    4 (p1.p2 + m1 m2) - 8 along^2. A' -> chi1 chi2 of opposite CP (pseudo-Dirac, real masses of the same sign) has
    this form; Izaguirre, Krnjaic, Shuve, arXiv:1508.03050. m1 = m2: A' -> l l.
    """
    product = 0.5 * (mass * mass - mass1 * mass1 - mass2 * mass2)
    return 4.0 * (product + mass1 * mass2) - 8.0 * along * along


@inlined
def vector_to_fermions_unpolarised(mass: float, mass1: float, mass2: float) -> float:
    """The same, averaged over the three polarisations: isotropic; GeV^2."""
    product = 0.5 * (mass * mass - mass1 * mass1 - mass2 * mass2)
    energy = 0.5 * (mass * mass + mass1 * mass1 - mass2 * mass2) / mass
    return 4.0 * (product + mass1 * mass2) - 8.0 / 3.0 * (energy * energy - mass1 * mass1)


@inlined
def heavy_to_light_pair(
    p2: Momentum, p1: Momentum, k1: Momentum, k2: Momentum, mass: float, mediator_mass2: float
) -> float:
    """|M|^2 of chi2(p2) -> chi1(p1) l-(k1) l+(k2) through A'*, in units of (g_D eps e)^2; dimensionless.

    mass: of the lepton; those of the chi from their momenta. Vector couplings with real masses of the same sign, as
    `vector_to_fermions`; A' without width. Average over the spins of chi2. Izaguirre, Krnjaic, Shuve,
    arXiv:1508.03050; for m_l << Delta << m1, m_A' it gives their width 4 eps^2 alpha alpha_D Delta^5/(15 pi m_A'^4).
    """
    m2 = math.sqrt(max(dot(p2, p2), 0.0))
    m1 = math.sqrt(max(dot(p1, p1), 0.0))
    product = dot(p1, p2)
    kk = dot(k1, k2)
    q2 = 2.0 * (kk + mass * mass)
    crossed = dot(p1, k1) * dot(p2, k2) + dot(p1, k2) * dot(p2, k1)
    gap = product - m1 * m2
    square = crossed - product * (kk + mass * mass) - kk * gap + 2.0 * gap * (kk + mass * mass)
    propagator = q2 - mediator_mass2
    return 16.0 * square / (propagator * propagator)


@inlined
def leptonic_decay(parent: Momentum, neutrino: Momentum, lepton: Momentum, antineutrino: Momentum) -> float:
    """|M|^2 of L-(parent) -> nu_L(neutrino) l-(lepton) nubar_l(antineutrino) in units of G_F^2, unpolarised; GeV^4.

    64 (L . nubar_l)(l . nu_L), with the masses of both leptons: V - A, W at zero momentum. L = mu or tau. Source:
    Michel; any text, e.g. PDG review "Muon decay parameters" for the spectrum.
    """
    return 64.0 * dot(parent, antineutrino) * dot(lepton, neutrino)


@inlined
def polarised_leptonic_decay(
    parent: Momentum, spin: Momentum, mass: float, neutrino: Momentum, lepton: Momentum, antineutrino: Momentum
) -> float:
    """The same for L- with spin four-vector `spin` (spin^2 = -1, spin . parent = 0; shorter for partial polarisation).

    64 ((L - m s) . nubar_l)(l . nu_L). For L+ of the same decay, change the sign of `spin`.
    """
    polarised = dot(parent, antineutrino) - mass * dot(spin, antineutrino)
    return 64.0 * polarised * dot(lepton, neutrino)


@inlined
def lepton_alpha_asymmetry(mass: float, lepton_mass: float, alpha_mass: float, vector: float, axial: float) -> float:
    """A of dGamma/dcos = (1 + A P cos)/2 in tau- -> l- alpha: cos of l- to the spin of the tau, P its polarisation.

    L = d_mu a/(2 f) lbar gamma^mu (c_V + c_A gamma5) tau + h.c. with c_V = `vector`, c_A = `axial`, real.
    (1, -1) is V - A, (1, 1) V + A; a pure vector or pure axial coupling is isotropic, A = 0. For m_l = 0 V - A has
    A = -1: a left-handed lepton goes against the spin.
    """
    scalar = vector * (mass - lepton_mass)
    pseudo = -axial * (mass + lepton_mass)
    energy = 0.5 * (mass * mass + lepton_mass * lepton_mass - alpha_mass * alpha_mass) / mass
    momentum = math.sqrt(max(energy * energy - lepton_mass * lepton_mass, 0.0))
    total = scalar * scalar * (energy + lepton_mass) + pseudo * pseudo * (energy - lepton_mass)
    return -2.0 * scalar * pseudo * momentum / total


@inlined
def neutral_lepton_decay(
    parent: Momentum, neutrino: Momentum, minus: Momentum, plus: Momentum, mass: float, left: float, right: float
) -> float:
    """|M|^2 of N(parent) -> nu l-(minus) l+(plus) through Z*, in units of G_F^2 |U|^2, unpolarised; GeV^4.

    left, right: -1/2 + sin^2(theta_W) and sin^2(theta_W), for N mixed with another flavour than l, as N mixed with tau
    to mu mu nu; with the flavour of l, where W* adds to it, left is +1/2 + sin^2(theta_W). N (Dirac); its antiparticle has l- and l+ exchanged, and a Majorana N half of each times two.
    64 [L^2 (N.l+)(nu.l-) + R^2 (N.l-)(nu.l+) + L R m^2 (N.nu)]. Structure: Bondarenko et al., arXiv:1805.08567, whose
    width (physics notes, b_decay 8.7) is its integral.
    """
    one = left * left * dot(parent, plus) * dot(neutrino, minus)
    two = right * right * dot(parent, minus) * dot(neutrino, plus)
    return 64.0 * (one + two + left * right * mass * mass * dot(parent, neutrino))


@inlined
def flat() -> float:
    """|M|^2 of a spinless particle into spinless ones without structure: phase space alone."""
    return 1.0
