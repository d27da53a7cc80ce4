"""Numbers as text; the templates know these functions as filters of the names in `FILTERS`."""

from __future__ import annotations

import math
from collections.abc import Callable

from terrazzo.base.durations import duration


def score(value: float | None) -> str:
    """Return a score with three decimals; "absent", never 0, where it is not defined."""
    return "absent" if value is None or math.isnan(value) else f"{value:.3f}"


def score4(value: float) -> str:
    """Return a score with four decimals; "absent" where it is not defined."""
    return "absent" if math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Return a difference of scores with its sign."""
    return f"{value:+.3f}".replace("-", "−")


def count(value: int) -> str:
    """Return a whole number with a comma between thousands."""
    return f"{value:,}"


def percent(share: float) -> str:
    """Return a share 0…1 in per cent; 0 and 100 only where it is exactly that."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{100 * share:.1f} %"


def whole_percent(share: float) -> str:
    """Return a share 0…1 in whole per cent without the sign, for a narrow cell."""
    if 0 < share < 0.005:
        return "<1"
    if 0.995 < share < 1:
        return ">99"
    return f"{100 * share:.0f}"


def gigabytes(num_bytes: int) -> str:
    """Return a number of bytes in GiB."""
    return f"{num_bytes / 2**30:.2f} GiB"


def amount(value: float) -> str:
    """Return hectares or pixels: whole ones from a thousand on; "absent" where not defined."""
    if math.isnan(value):
        return "absent"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.4g}"
    return text.replace("-", "−")


def coordinate(value: float) -> str:
    """Return a coordinate: degrees to about a decimetre, metres to a centimetre."""
    decimals = 6 if abs(value) < 1000 else 2
    text = f"{value:,.{decimals}f}".rstrip("0").rstrip(".")
    return text.replace("-", "−")


FILTERS: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (
        score, score4, signed, count, percent, whole_percent, gigabytes, duration, coordinate,
        amount,
    )
}  # fmt: skip
