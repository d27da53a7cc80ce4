"""Quantiles of Student's t distribution, NumPy alone."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NORMAL = NormalDist()
_normal_quantile = np.vectorize(_NORMAL.inv_cdf, otypes=[np.float64])


def quantile(alpha: float | Floats, freedom: float | Floats) -> Floats:
    """Return the t that is exceeded, to either side, with the probability `alpha`.

    After Hill 1970 (Algorithm 396, Communications of the ACM 13: 619): six digits from 3 degrees
    of freedom on, three at 2; below, to some per cent, from the exact values at 1 and 2.

    Args:
        alpha: two-sided probability, above 0 and below 1.
        freedom: degrees of freedom, any number from 1.
    """
    wanted, given = np.broadcast_arrays(
        np.asarray(alpha, np.float64), np.asarray(freedom, np.float64)
    )
    found = _hill(wanted, np.maximum(given, 2.0))
    few = given < 2
    if not few.any():
        return found
    at_one = np.log(1 / np.tan(wanted * (math.pi / 2)))
    at_two = np.log(2 / (wanted * (2 - wanted)) - 2) / 2
    share = 2 / np.clip(given, 1.0, 2.0) - 1  # of 1: the tail is a power with 1/freedom
    return np.where(few, np.exp(at_two + share * (at_one - at_two)), found)


def normal_two_sided(z: float) -> float:
    """Return the probability of a normal value further from 0 than `z`."""
    return 2 * _NORMAL.cdf(-abs(z))


def _hill(alpha: Floats, n: Floats) -> Floats:
    """Expand t about the normal quantile, and about a power where the tail is far."""
    a = 1 / (n - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * np.sqrt(a * (math.pi / 2)) * n
    power = (d * alpha) ** (2 / n)
    return np.asarray(
        np.sqrt(n * np.where(power > 0.05 + a, _near(alpha, n, a, b, c, d), _far(power, n, d)))
    )


def _near(alpha: Floats, n: Floats, a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # a flag that comes with no wrong number
        x = _normal_quantile(alpha / 2)
    c = c + np.where(n < 5, 0.3 * (n - 4.5) * (x + 0.6), 0.0)
    c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
    y = x * x
    y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
    return np.asarray(np.expm1(np.minimum(a * y * y, 500.0)))


def _far(y: Floats, n: Floats, d: Floats) -> Floats:
    series = 1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)
    return np.asarray((series * y - 1) * (n + 1) / (n + 2) + 1 / y)
