"""How much each slice counts: what is left of it tells what the model cannot do.

At the start the model is wrong everywhere and the deviations of neighbouring pixels are alike: they count less, and
what is known about molecules more. As the fit improves both change by themselves, down to the noise.
"""

from dataclasses import dataclass

import numpy as np

from twinscope.agents.noise import MEDIAN_TO_SIGMA
from twinscope.agents.structure_discovery.refinement.measurement import Measurement

# Simulations of the same physics differ by this part of the contrast: by the heights at which forces are computed.
_LEAST_ERROR = 0.003


@dataclass(frozen=True, eq=False)
class Weighting:
    """What deviations are compared with.

    Force gradients v are compared as arsinh(v / scale): the repulsion grows exponentially, and would be all that
    counts.

    Attributes
    ----------
    scale
        In N/m.
    compressed
        What was measured, compressed, shape (nz, n); zero where nothing was.
    sigma
        Standard deviations of noise and model, compressed, same shape.
    repeats
        How many neighbouring values tell the same.
    """

    scale: float
    compressed: np.ndarray
    sigma: np.ndarray
    repeats: float

    @classmethod
    def of(
        cls, measurement: Measurement, simulated: np.ndarray, valid: np.ndarray, most_correlated: float
    ) -> "Weighting":
        """Judge a simulation (nz, n) by what it leaves.

        Correlations count up to `most_correlated`; else what is known would hold a bad start where it is.
        """
        scale = float(np.median(measurement.contrast))
        shape = simulated.shape
        known = measurement.measured.reshape(shape)
        compressed = np.arcsinh(np.where(known, measurement.values.reshape(shape), 0) / scale)
        left = np.where(known & valid, compressed - np.arcsinh(simulated / scale), np.nan)
        noise = measurement.noise[:, None] / scale / np.cosh(compressed)
        typical = np.array([_typical(one) for one in left])
        unexplained = np.sqrt(np.maximum(typical**2 - np.median(noise**2, axis=1), 0))
        least = _LEAST_ERROR * measurement.contrast / np.hypot(scale, measurement.contrast)
        sigma = np.hypot(noise, np.maximum(unexplained, least)[:, None])
        return cls(
            scale, compressed, sigma, _repeats((left / sigma).reshape(measurement.values.shape), most_correlated)
        )

    def deviations(self, simulated: np.ndarray) -> np.ndarray:
        """Measured minus simulated (nz, n), in standard deviations."""
        return (self.compressed - np.arcsinh(simulated / self.scale)) / self.sigma

    def slope(self, simulated: np.ndarray) -> np.ndarray:
        """Change of the compressed value with the force gradient, in standard deviations per N/m, shape (nz, n)."""
        return 1 / np.hypot(self.scale, simulated) / self.sigma


def _typical(values: np.ndarray) -> float:
    """Estimate the standard deviation of values about zero, whatever a few of them do."""
    known = np.abs(values[np.isfinite(values)])
    return float(MEDIAN_TO_SIGMA * np.median(known)) if len(known) else 1.0


def _repeats(left: np.ndarray, most_correlated: float) -> float:
    """Estimate how many values of a stack (nz, ny, nx) tell the same, from the correlation of neighbours."""
    total = 1.0
    for axis, count in enumerate(left.shape):
        first, second = (np.take(left, indices, axis) for indices in (range(count - 1), range(1, count)))
        known = np.isfinite(first) & np.isfinite(second)
        a, b = first[known], second[known]
        power = np.sqrt((a @ a) * (b @ b))
        correlation = float(np.clip(a @ b / power, 0, most_correlated)) if power > 0 else 0.0
        total *= (1 + correlation) / (1 - correlation)
    return total
