"""Split conformal intervals: a half-width from residuals of cases on which nothing was trained.

Vovk, Gammerman and Shafer 2005 (10.1007/b106715); the finite-sample rank is that of Lei et al. 2018
(10.1080/01621459.2017.1307116): of n exchangeable calibration cases and a new one, the new residual is at most the
ceil((n + 1) level)-th smallest with probability ``level`` or more, whatever the model is.
"""

import math

import numpy as np


def half_width(residuals: np.ndarray, level: float = 0.9) -> float:
    """Half of the interval's width, in the residuals' unit; infinite where the cases are too few for the level.

    Args:
        residuals: (n,) truth - prediction of calibration cases, or these divided by each case's predicted scale
            (then multiply what comes back by the new case's scale).
        level: of coverage, above 0 and below 1.

    Raises:
        ValueError: the level is not between 0 and 1, or a residual is not finite.
    """
    if not 0 < level < 1:
        raise ValueError(
            f"The level of an interval lies between 0 and 1, not at {level}; 0.9 covers nine cases of ten."
        )
    sizes = np.sort(np.abs(np.asarray(residuals, float)))
    if not np.isfinite(sizes).all():
        raise ValueError("Residuals for a conformal interval are finite numbers; leave cases without truth out.")
    # 0.9 * 10 is 9.000000000000002 in floating point
    rank = math.ceil(round((len(sizes) + 1) * level, 9))
    return float(sizes[rank - 1]) if rank <= len(sizes) else math.inf


def fewest(level: float = 0.9) -> int:
    """Calibration cases below which the interval is infinite: 9 for 0.9, 19 for 0.95."""
    return math.ceil(round(level / (1 - level), 9))


def intervals(prediction: np.ndarray, half: float, scale: np.ndarray | float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper ends (n,) around predictions (n,), each case's width multiplied by its scale."""
    reach = half * np.asarray(scale, float)
    return prediction - reach, prediction + reach
