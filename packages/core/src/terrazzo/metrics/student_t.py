"""Student's t distribution with any positive number of degrees of freedom, NumPy alone."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_TERMS = 400
_STEPS = 60
_NORMAL = NormalDist()
_MOST_FREEDOM = 5e3
"""Above it, the distribution is the normal one to three digits or more."""


def two_sided(t: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return the probability of a value further from 0 than `t`.

    Args:
        t: any shape; the sign does not matter.
        freedom: degrees of freedom, positive, of a shape that broadcasts.
    """
    away, given = np.broadcast_arrays(np.asarray(t, np.float64), np.asarray(freedom, np.float64))
    limited = np.minimum(given, _MOST_FREEDOM)
    return _incomplete_beta(limited / 2, limited / (limited + away * away))


def quantile(alpha: ArrayLike, freedom: ArrayLike) -> Floats:
    """Return the t that is exceeded, to either side, with the probability `alpha`.

    Args:
        alpha: two-sided probability, above 0 and below 1.
        freedom: degrees of freedom, positive.
    """
    wanted, given = np.broadcast_arrays(
        np.asarray(alpha, np.float64), np.asarray(freedom, np.float64)
    )
    return _by_newton(wanted, np.minimum(given, _MOST_FREEDOM))


def _by_newton(alpha: Floats, freedom: Floats) -> Floats:
    half = _log_gamma((freedom + 1) / 2) - _log_gamma(freedom / 2)
    log_peak = half - np.log(freedom * math.pi) / 2
    # The logarithm of the tail is concave in that of t: Newton's steps do not oscillate.
    t: Floats = np.vectorize(lambda each: -_NORMAL.inv_cdf(each / 2), otypes=[np.float64])(alpha)
    for _ in range(_STEPS):
        tail = np.maximum(two_sided(t, freedom), 1e-300)
        log_density = log_peak - (freedom + 1) / 2 * np.log1p(t * t / freedom)
        slope = -2 * t * np.exp(log_density) / tail
        step = np.log(tail / alpha) / -slope
        t = t * np.exp(np.clip(step, -20, 20))
        if np.all(np.abs(step) < 1e-10):
            break
    return t


def normal_two_sided(z: float) -> float:
    """Return the probability of a normal value further from 0 than `z`."""
    return 2 * _NORMAL.cdf(-abs(z))


def _incomplete_beta(a: Floats, x: Floats) -> Floats:
    """Return the regularised incomplete beta function I_x(a, 1/2).

    By its continued fraction (Abramowitz & Stegun 26.5.8), on the side where it converges fast.
    """
    b = np.full_like(a, 0.5)
    x = np.clip(x, 1e-300, 1 - 1e-16)
    turned = x > (a + 1) / (a + b + 2)
    first, second = np.where(turned, b, a), np.where(turned, a, b)
    y = np.where(turned, 1 - x, x)
    log_beta = _log_gamma(first) + _log_gamma(second) - _log_gamma(first + second)
    front = np.exp(first * np.log(y) + second * np.log1p(-y) - log_beta) / first
    found = front * _continued_fraction(first, second, y)
    return np.asarray(np.clip(np.where(turned, 1 - found, found), 0.0, 1.0))


def _continued_fraction(a: Floats, b: Floats, x: Floats) -> Floats:
    """Evaluate the fraction by Lentz's method."""
    tiny = 1e-300
    c = np.ones_like(x)
    d = 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    value = d.copy()
    for m in range(1, _TERMS):
        before = value
        for numerator in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _away_from_zero(1 + numerator * d, tiny)
            c = _away_from_zero(1 + numerator / c, tiny)
            value = value * c * d
        if np.all(np.abs(value - before) <= 1e-13 * np.abs(value)):
            break
    return value


def _away_from_zero(values: Floats, tiny: float) -> Floats:
    return np.where(np.abs(values) < tiny, tiny, values)


def _log_gamma(values: Floats) -> Floats:
    return np.asarray(np.vectorize(math.lgamma, otypes=[np.float64])(values))
