"""The learning rate as a pure function of the step: nothing to save, nothing to restore."""

from __future__ import annotations

import math
from collections.abc import Sequence

from terrazzo.base.recipe import ScheduleConfig


def learning_rate(
    schedule: ScheduleConfig,
    *,
    step: int,
    total_steps: int,
    steps_per_epoch: int,
    scores: Sequence[float] = (),
) -> float:
    """Return the learning rate of one step.

    Args:
        schedule: its name and numbers.
        step: 0…total_steps-1.
        total_steps: of the whole run; where poly and cosine end.
        steps_per_epoch: for the exponential schedule, which falls once an epoch.
        scores: validation scores so far, larger is better; for the plateau schedule.

    Returns:
        Linear warm-up to ``schedule.learning_rate`` over the first ``warmup_steps``, then
        poly: lr·(1−t)^power with t the share of steps done (Chen et al. 2016, DeepLab);
        exponential: lr·gamma^epoch; cosine: lr·(1+cos πt)/2 (Loshchilov & Hutter 2017);
        plateau: lr·gamma^reductions; never below ``schedule.floor``.
    """
    peak = schedule.learning_rate
    if step < schedule.warmup_steps:
        return peak * (step + 1) / schedule.warmup_steps
    share = (step - schedule.warmup_steps) / max(total_steps - schedule.warmup_steps, 1)
    match schedule.name:
        case "constant":
            factor = 1.0
        case "poly":
            factor = (1 - min(share, 1.0)) ** schedule.power
        case "cosine":
            factor = (1 + math.cos(math.pi * min(share, 1.0))) / 2
        case "exponential":
            factor = schedule.gamma ** (step // steps_per_epoch)
        case "plateau":
            factor = schedule.gamma ** _reductions(scores, schedule.patience)
    return max(peak * factor, schedule.floor)


def _reductions(scores: Sequence[float], patience: int) -> int:
    """Count how often more than `patience` scores in a row brought nothing better."""
    best, waited, reductions = -math.inf, 0, 0
    for score in scores:
        if score > best:
            best, waited = score, 0
            continue
        waited += 1
        if waited > patience:
            reductions, waited = reductions + 1, 0
    return reductions
