"""What ``timing.jsonl`` says of a run: the one place that adds up its seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def training_seconds(timing: Sequence[Mapping[str, Any]]) -> float | None:
    """Return the seconds spent in training steps, validations left out; None where none is known.

    The clock of the train loop starts anew when training begins, is resumed, or comes back from a
    validation; each line says how long it has run since, and at which step it started follows from
    its rate. So the last line of each such section counts. Steps that were done again after a kill
    took their time twice, and count twice.

    Args:
        timing: the objects of ``timing.jsonl``, in order.
    """
    total, last = 0.0, 0.0
    section: int | None = None  # the step it started at
    found = False
    for line in timing:
        if "seconds_to_first_step" in line:  # another process
            total, last, section = total + last, 0.0, None
        if not {"seconds", "step", "steps_per_second"} <= line.keys():
            continue
        found = True
        seconds = float(line["seconds"])
        start = round(line["step"] - line["steps_per_second"] * seconds)
        if start != section or seconds < last:
            total, section = total + last, start
        last = seconds
    return total + last if found else None
