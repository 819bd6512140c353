"""What inference hands back: one frozen object per question, of plain floats and tuples."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LimitMethod = Literal["cls", "profile-likelihood"]
Statistic = Literal["q0", "qmu", "qmu_tilde", "tmu", "tmu_tilde"]
STATISTICS: tuple[Statistic, ...] = ("q0", "qmu", "qmu_tilde", "tmu", "tmu_tilde")
LIMIT_METHODS: tuple[LimitMethod, ...] = ("cls", "profile-likelihood")
N_SIGMA = (-2, -1, 0, 1, 2)
ONE_SIGMA = 0.6826894921370859
"""The probability within one standard deviation of the mean."""


def check_limit(method: str, confidence_level: float) -> None:
    """Raise ValueError unless there is such a limit."""
    if method not in LIMIT_METHODS:
        msg = f"method: found {method!r}; known: {', '.join(LIMIT_METHODS)}"
        raise ValueError(msg)
    if not 0.5 < confidence_level < 1.0:
        msg = f"confidence_level: found {confidence_level}; it lies above 0.5 and below 1, such as 0.95"
        raise ValueError(msg)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The best fit of all free parameters, or of all but the POI.

    bestfit, uncertainties: one number per parameter, in the order of `parameter_names` (that of pyhf).
    uncertainties: None unless asked for (`diagnostics.fit_with_uncertainties`); 0 for a fixed parameter.
    covariance: shape (n_parameters, n_parameters), read-only; None unless asked for.
    twice_nll: -2 ln L, every constant included, as `-2 * pyhf.Model.logpdf`.
    poi_gradient: d(-2 ln L)/d(POI) at the best fit, which is also the slope of the profiled -2 ln L.
    at_bounds: names of the free parameters that ended on one of their bounds.
    clipped_bins: bins such as `SR[3]` whose expected yield is negative at the best fit and which were counted as empty.
    fits, evaluations: what this result cost; an evaluation is one call of the model.
    """

    parameter_names: tuple[str, ...]
    bestfit: tuple[float, ...]
    uncertainties: tuple[float, ...] | None = None
    covariance: NDArray[np.float64] | None = field(default=None, repr=False, compare=False)
    twice_nll: float
    poi_name: str
    poi_value: float
    poi_fixed: bool
    poi_gradient: float
    at_bounds: tuple[str, ...]
    clipped_bins: tuple[str, ...] = ()
    fits: int
    evaluations: int

    def __getitem__(self, name: str) -> float:
        """The best-fit value of the parameter called `name`."""
        try:
            return self.bestfit[self.parameter_names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    @property
    def correlation(self) -> NDArray[np.float64] | None:
        """Correlation matrix; 1 on the diagonal and 0 elsewhere for a parameter without uncertainty."""
        if self.covariance is None:
            return None
        import numpy as np

        sigma = np.sqrt(np.diag(self.covariance))
        known = sigma > 0.0
        scale = np.divide(1.0, sigma, out=np.zeros_like(sigma), where=known)
        correlation: NDArray[np.float64] = self.covariance * np.outer(scale, scale)
        np.fill_diagonal(correlation, 1.0)
        return correlation


@dataclass(frozen=True, kw_only=True)
class AsymptoticTest:
    """One value of the POI, tested with one of the test statistics of arXiv:1007.1727.

    p_value: of the hypothesis that the POI has this value.
    """

    poi_name: str
    poi: float
    statistic: Statistic
    value: float
    p_value: float


@dataclass(frozen=True, kw_only=True)
class HypothesisTest:
    """One value of the POI, tested with qmu_tilde (arXiv:1007.1727) against the background-only hypothesis.

    cl_sb, cl_b, cl_s: p-value of signal + background, 1 - p-value of background only, and their ratio.
    expected_cl_sb, expected_cl_s: when the data are background only, fluctuated by -2, -1, 0, +1, +2 sigma.
    """

    poi_name: str
    poi: float
    qmu_tilde: float
    qmu_tilde_asimov: float
    cl_sb: float
    cl_b: float
    cl_s: float
    expected_cl_sb: tuple[float, float, float, float, float]
    expected_cl_s: tuple[float, float, float, float, float]


@dataclass(frozen=True, kw_only=True)
class UpperLimit:
    """An upper limit on the POI, observed and expected from background only.

    expected: at -2, -1, 0, +1, +2 sigma. With `profile-likelihood` an entry, and the observed limit, is 0 where a
    downward fluctuation of that size excludes every positive signal: there is no division by CLb to prevent it.
    q0: the test statistic of background only (see `Discovery`).
    effective_background_events: events of the counting experiment that is as sensitive as this model,
    (sum s)^2 / sum(s^2/b) over bins, for a signal s and the expected background b.
    asymptotics_doubtful: fewer than `asymptotic.FEW_EVENTS` such events; `warnings` says it in words.
    fits, evaluations: what this limit cost beyond what the calculator had already done.
    """

    poi_name: str
    method: LimitMethod
    confidence_level: float
    observed: float
    expected: tuple[float, float, float, float, float]
    poi_hat: float
    q0: float
    effective_background_events: float
    asymptotics_doubtful: bool
    warnings: tuple[str, ...]
    fits: int
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Discovery:
    """Test of the background-only hypothesis with q0 (arXiv:1007.1727, Eq. 12); local, one-sided.

    significance: sqrt(q0), in sigma; 0, with p-value 0.5, when the best fit is not above 0.
    """

    poi_name: str
    q0: float
    p_value: float
    significance: float
    poi_hat: float
    fits: int
    evaluations: int


@dataclass(frozen=True, kw_only=True)
class Pull:
    """How far a constrained parameter moved: (bestfit - centre) / width, and its uncertainty in units of the width."""

    parameter: str
    pull: float
    uncertainty: float


@dataclass(frozen=True, kw_only=True)
class SamplePrediction:
    """Expected yields of one sample in one channel, with their uncertainty, per bin."""

    sample: str
    values: tuple[float, ...]
    stdevs: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class ChannelPrediction:
    """Expected yields of one channel after the fit, and the observed counts.

    total_stdevs: per bin, correlations of the parameters included.    total_stdev: of the sum over bins.
    """

    channel: str
    samples: tuple[SamplePrediction, ...]
    total: tuple[float, ...]
    total_stdevs: tuple[float, ...]
    total_stdev: float
    observed: tuple[float, ...]
