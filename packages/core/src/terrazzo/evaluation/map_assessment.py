"""What is known of a map once it was assessed, by reference points or by test blocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from terrazzo.data import class_areas
from terrazzo.metrics.area_estimation import AreaEstimates, Estimate

METHODS = {
    "map classes": "stratified random sampling whose strata are the classes of the map "
    "(Olofsson et al. 2014)",
    "other strata": "stratified random sampling whose strata are not the classes of this map "
    "(Stehman 2014)",
    "simple": "simple random sampling",
    "systematic": "systematic sampling, with the standard errors of simple random sampling, which "
    "are as a rule too large for it: intervals are conservative",
    "test blocks": "the spatial test blocks of a run, by bootstrap over whole blocks",
}
"""What the estimates come from."""

_OF_THIS_MAP = (
    "How right is this map, and how large are its classes? The points were drawn from this area, "
    "so the answer holds for it, whatever made the map."
)
QUESTIONS = dict.fromkeys(METHODS, _OF_THIS_MAP) | {
    "test blocks": "What would be so if this map erred as the model does in its test blocks? They "
    "were not drawn from this area: other ground, another season or blocks that are too few or "
    "unlike it make the answer wrong without widening its intervals. Reference points answer for "
    "this map (terrazzo sample)."
}
"""Which question the estimates answer, and how far they may be trusted."""


@dataclass(frozen=True, slots=True)
class MappedClass:
    """A class, as the map has it and as the points say it is.

    Attributes:
        id: its value on the map.
        name: of the class.
        mapped: size on the map in `Assessment.unit`.
        estimated: size by the reference points: error-adjusted.
        users: accuracy: share of the mapped class that is right.
        producers: accuracy: share of the real class that the map has right.
        points_mapped: reference points, or test pixels, on the mapped class.
        points_reference: reference points, or test pixels, of the class.
    """

    id: int
    name: str
    mapped: float
    estimated: Estimate
    users: Estimate
    producers: Estimate
    points_mapped: int
    points_reference: int


@dataclass(frozen=True, slots=True)
class Assessment:
    """What reference points say of a map.

    Attributes:
        map: the map.
        source: the file of the points, or the run.
        method: one of the keys of `METHODS`.
        unit: ``hectares``, or ``pixels`` where the map does not say where it lies.
        classes: K classes on the map or in the reference.
        estimates: of K classes in this order.
        sample: what the estimates were made from, such as ``640 reference points``.
        left_out: points that were not used, by the reason.
    """

    map: Path
    source: Path
    method: str
    unit: str
    classes: tuple[MappedClass, ...]
    estimates: AreaEstimates
    sample: str
    left_out: dict[str, int]

    @property
    def counted(self) -> str:
        """What the error matrix counts."""
        return "test pixels" if self.method == "test blocks" else "reference points"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the classes of a map are.

    Attributes:
        unit: ``hectares``, or ``pixels`` where the map does not say where it lies.
        of_class: sizes in this unit by the ids of the classes.
        pixels: of the classes, likewise.
    """

    unit: str
    of_class: Mapping[int, float]
    pixels: Mapping[int, int]


def sizes_on(map_path: Path) -> Sizes:
    """Add up the classes of a map.

    Raises:
        DataError: as `class_areas.of_map`.
    """
    areas = {each.id: each for each in class_areas.of_map(map_path) if each.id is not None}
    unit = "pixels" if any(math.isnan(each.hectares) for each in areas.values()) else "hectares"
    return Sizes(
        unit,
        {id_: float(getattr(each, unit)) for id_, each in areas.items()},
        {id_: each.pixels for id_, each in areas.items()},
    )


def mapped_classes(
    ids: Sequence[int],
    names: Sequence[str],
    sizes: Sequence[float],
    estimates: AreaEstimates,
    total: float,
) -> tuple[MappedClass, ...]:
    """Put together what is known of each class.

    Args:
        ids: K values on the map.
        names: K names.
        sizes: K sizes on the map.
        estimates: of the K classes.
        total: size of all strata, which the estimated shares are of.
    """
    return tuple(
        MappedClass(
            id_,
            names[k],
            float(sizes[k]),
            estimates.area_shares[k].times(total),
            estimates.users[k],
            estimates.producers[k],
            int(estimates.counts_KK[k].sum()),
            int(estimates.counts_KK[:, k].sum()),
        )
        for k, id_ in enumerate(ids)
    )
