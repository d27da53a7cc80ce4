"""Points drawn at random from a map of classes, for people to say what is really there.

Every design gives a square metre of its stratum the same chance, whatever the CRS: rows are drawn
by the area of their pixels on the ground. The map is read twice, some rows at a time: to count, and
to find the pixels that were drawn. Pixels without a class are never drawn.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError, unknown_name
from terrazzo.data import class_map, ground
from terrazzo.data.class_map import ClassMap

Floats = NDArray[np.float64]
Kind = Literal["stratified", "simple", "systematic"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WHOLE_MAP = 0
"""Number of the only stratum of simple and systematic designs."""
_CANDIDATES = 20  # drawn for each point, where points must keep a distance
_MOST_POINTS = 1_000_000


@dataclass(frozen=True, slots=True)
class Design:
    """How points are drawn.

    Attributes:
        points: how many; a systematic design comes close to it.
        kind: ``stratified``: so many from each class of the map; ``simple``: from the whole map;
            ``systematic``: a grid with a random start.
        min_per_class: points that every class gets in a stratified design; the others are shared by
            area.
        min_distance: metres on the ground that two points are apart; 0: any.
        seed: of the draws; the same map, design and seed give the same points.
    """

    points: int
    kind: Kind = "stratified"
    min_per_class: int = 50
    min_distance: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Stratum:
    """Where points are drawn from.

    Attributes:
        id: of the class, or `WHOLE_MAP`.
        name: of the class.
        pixels: how many it has.
        hectares: on the ground; NaN where the map does not say where it lies.
        points: how many were drawn.
    """

    id: int
    name: str
    pixels: int
    hectares: float
    points: int

    @property
    def size(self) -> float:
        """Hectares; pixels where these are not known."""
        return self.pixels if math.isnan(self.hectares) else self.hectares


@dataclass(frozen=True, slots=True)
class DrawnPoints:
    """N pixels that were drawn, in random order.

    Attributes:
        rows_N: of the pixels.
        columns_N: of the pixels.
        class_ids_N: what the map says there.
        strata_N: ids of the strata they were drawn from.
        strata: all strata.
    """

    rows_N: NDArray[np.int64]
    columns_N: NDArray[np.int64]
    class_ids_N: NDArray[np.int64]
    strata_N: NDArray[np.int64]
    strata: tuple[Stratum, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Pixels of a stratum in each row of the map, and their area: of pixels where none is known."""

    pixels_R: NDArray[np.int64]
    areas_R: Floats


def refuse_impossible(design: Design) -> None:
    """Refuse a design that means nothing, before the map is read.

    Raises:
        ConfigError: SEG-X004, no such kind; SEG-X095.
    """
    if design.kind not in KINDS:
        raise unknown_name("design", design.kind, KINDS)
    stratified = design.kind == "stratified"
    rules = (
        (1 <= design.points <= _MOST_POINTS, "--points", design.points, f"1 to {_MOST_POINTS}"),
        (
            design.min_per_class >= 2 or not stratified,
            "--min-per-class",
            design.min_per_class,
            "2 or more: one point has no standard error",
        ),
        (
            0 <= design.min_distance < math.inf,
            "--min-distance",
            design.min_distance,
            "metres, 0 or more",
        ),
        (
            not design.min_distance or design.kind != "systematic",
            "--min-distance",
            design.min_distance,
            "none for a systematic design: its grid has its own distance",
        ),
    )
    for holds, option, observed, allowed in rules:
        if not holds:
            raise _impossible(option, observed, allowed)


def draw(source: ClassMap, design: Design) -> DrawnPoints:
    """Draw points from a map.

    Raises:
        ConfigError: as `refuse_impossible`; SEG-X095, there are too few points for every class, or
            a distance is asked for on a map that does not say where it lies.
        DataError: SEG-D081, it is no map of classes; SEG-D082, it holds no class, or has not room
            for so many points; as `ClassMap.groups`.
    """
    refuse_impossible(design)
    if design.min_distance and ground.of_raster(source.info) is None:
        raise _impossible(
            "--min-distance", design.min_distance, "a map that says where on the ground it lies"
        )
    by_class, hectares_known = _count(source)
    if not by_class:
        raise DataError("SEG-D082", "the map holds no class at all", file=source.path)
    rng = np.random.default_rng(design.seed)
    if design.kind == "stratified":
        rows_of, names = by_class, {id_: source.name_of(id_) for id_ in by_class}
        counts = _allocate(design, rows_of)
    else:
        rows_of, names = {WHOLE_MAP: _together(list(by_class.values()))}, {WHOLE_MAP: "whole map"}
        counts = {WHOLE_MAP: min(design.points, int(rows_of[WHOLE_MAP].pixels_R.sum()))}
    if design.kind == "systematic":
        found = _of_grid(source, rows_of[WHOLE_MAP], design.points, rng)
    else:
        found = _of_strata(source, rows_of, counts, design, rng)
    found = found[rng.permutation(len(found))]
    rows_N, columns_N, class_ids_N, strata_N = found.T
    strata = tuple(
        Stratum(
            id_,
            names[id_],
            int(rows.pixels_R.sum()),
            math.fsum(rows.areas_R) / 1e4 if hectares_known else math.nan,
            int((strata_N == id_).sum()),
        )
        for id_, rows in rows_of.items()
    )
    return DrawnPoints(rows_N, columns_N, class_ids_N, strata_N, strata)


def _impossible(option: str, observed: float, allowed: str) -> ConfigError:
    return ConfigError(
        "SEG-X095",
        "no points can be drawn so",
        observed=f"{option} {observed:g}",
        allowed=allowed,
        next_step="terrazzo sample --help shows what there is",
    )


def _count(source: ClassMap) -> tuple[dict[int, _Rows], bool]:
    """Return the rows of each class that is on the map, and whether areas are on the ground."""
    rows = source.info.rows
    pixels: defaultdict[int, NDArray[np.int64]] = defaultdict(lambda: np.zeros(rows, np.int64))
    areas: defaultdict[int, Floats] = defaultdict(lambda: np.zeros(rows))
    for sums in class_map.sums_by_row(source.groups(), source.info, source.path):
        part = slice(sums.first_row, sums.first_row + len(sums.pixels_RV))
        for at, id_ in enumerate(sums.ids_V.tolist()):
            pixels[id_][part], areas[id_][part] = sums.pixels_RV[:, at], sums.areas_RV[:, at]
        if len(pixels) > class_map.MOST_CLASSES:
            raise class_map.no_class_map(source.path, f"{len(pixels)} different numbers or more")
    known = not any(np.isnan(each).any() for each in areas.values())
    return {
        id_: _Rows(pixels[id_], areas[id_] if known else pixels[id_].astype(np.float64))
        for id_ in sorted(pixels)
    }, known


def _together(rows: Sequence[_Rows]) -> _Rows:
    return _Rows(
        np.sum([each.pixels_R for each in rows], axis=0),
        np.sum([each.areas_R for each in rows], axis=0),
    )


def _allocate(design: Design, rows_of: Mapping[int, _Rows]) -> dict[int, int]:
    """Share points among classes by area; none gets fewer than the least, or more than it has."""
    pixels = {id_: int(rows.pixels_R.sum()) for id_, rows in rows_of.items()}
    areas = {id_: float(rows.areas_R.sum()) for id_, rows in rows_of.items()}
    least = {id_: min(design.min_per_class, pixels[id_]) for id_ in pixels}
    if sum(least.values()) > design.points:
        raise ConfigError(
            "SEG-X095",
            "there are too few points for every class of the map",
            observed=f"{design.points} points, {len(pixels)} classes",
            allowed=f"{sum(least.values())} points or more, with {design.min_per_class} a class",
            next_step="raise --points, or lower --min-per-class",
        )
    fixed: dict[int, int] = {}
    while True:
        free = [id_ for id_ in pixels if id_ not in fixed]
        rest, area = design.points - sum(fixed.values()), sum(areas[id_] for id_ in free)
        quota = {id_: rest * areas[id_] / area for id_ in free}
        low = {id_: least[id_] for id_ in free if quota[id_] < least[id_]}
        high = {id_: pixels[id_] for id_ in free if quota[id_] > pixels[id_]}
        if not (low or high):
            break
        fixed |= low or high
    counts = {id_: math.floor(quota[id_]) for id_ in free}
    largest = sorted(free, key=lambda id_: (counts[id_] - quota[id_], id_))
    for id_ in largest[: max(0, design.points - sum((fixed | counts).values()))]:
        counts[id_] += 1
    return {id_: (fixed | counts)[id_] for id_ in pixels}


def _of_strata(
    source: ClassMap,
    rows_of: Mapping[int, _Rows],
    counts: Mapping[int, int],
    design: Design,
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Return N×4: row, column, class on the map, stratum."""
    each = _CANDIDATES if design.min_distance else 1
    candidates = {id_: _draw_pixels(rows, counts[id_] * each, rng) for id_, rows in rows_of.items()}
    places = _find(source, candidates, any_class=design.kind == "simple")
    if not design.min_distance:
        return np.concatenate(list(places.values()))
    apart = _Apart(source, design.min_distance)
    kept: dict[int, NDArray[np.int64]] = {}
    for id_ in sorted(places, key=lambda id_: int(rows_of[id_].pixels_R.sum())):
        chosen = apart.first_of(places[id_], counts[id_])
        if len(chosen) < counts[id_]:
            raise DataError(
                "SEG-D082",
                "there is not room for so many points so far apart",
                file=source.path,
                observed=f"{len(chosen)} of {counts[id_]} points in stratum {id_} "
                f"({int(rows_of[id_].pixels_R.sum())} pixels)",
                allowed=f"points {design.min_distance:g} m apart",
                next_step="lower --min-distance, --points or --min-per-class",
            )
        kept[id_] = chosen
    return np.concatenate([kept[id_] for id_ in rows_of])


def _draw_pixels(rows: _Rows, most: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return up to `most` different pixels N×2: row, and number among those of the row.

    They come in random order, likelier the larger they are on the ground.
    """
    total = int(rows.pixels_R.sum())
    most = min(most, total)
    if total <= 4 * most:
        row_N = np.repeat(np.arange(len(rows.pixels_R)), rows.pixels_R)
        firsts_R = np.cumsum(rows.pixels_R) - rows.pixels_R
        number_N = np.arange(total) - firsts_R[row_N]
        area_R = rows.areas_R / np.maximum(rows.pixels_R, 1)
        # The smallest of exponential waiting times, each at the rate of its area, comes first.
        first_N = np.argsort(rng.exponential(size=total) / area_R[row_N], kind="stable")[:most]
        return np.stack([row_N[first_N], number_N[first_N]], axis=1)
    chance_R = rows.areas_R / rows.areas_R.sum()
    found: dict[tuple[int, int], None] = {}  # in the order in which they were drawn
    while len(found) < most:
        row_N = rng.choice(len(chance_R), most, p=chance_R)
        number_N = np.floor(rng.random(most) * rows.pixels_R[row_N]).astype(np.int64)
        found |= dict.fromkeys(zip(row_N.tolist(), number_N.tolist(), strict=True))
    return np.array(list(found)[:most], np.int64).reshape(-1, 2)


def _find(
    source: ClassMap, drawn: Mapping[int, NDArray[np.int64]], *, any_class: bool
) -> dict[int, NDArray[np.int64]]:
    """Find the columns of pixels that are drawn; return N×4 a stratum, in the order drawn."""
    found = {id_: np.zeros((len(each), 4), np.int64) for id_, each in drawn.items()}
    wanted: defaultdict[int, list[tuple[int, int, int]]] = defaultdict(list)
    for id_, each in drawn.items():
        for at, (row, number) in enumerate(each.tolist()):
            wanted[row].append((id_, at, number))
    for row, labels_W, valid_W in _rows_of(source, sorted(wanted)):
        columns_of: dict[int, NDArray[np.intp]] = {}
        for id_, at, number in wanted[row]:
            if id_ not in columns_of:
                columns_of[id_] = np.flatnonzero(
                    valid_W if any_class else valid_W & (labels_W == id_)
                )
            column = int(columns_of[id_][number])
            found[id_][at] = row, column, int(labels_W[column]), id_
    return found


def _rows_of(
    source: ClassMap, rows: Sequence[int]
) -> Iterator[tuple[int, NDArray[np.integer], NDArray[np.bool_]]]:
    """Yield some rows of a map, in order; those of one block are read together."""
    block = class_map.ROWS_AT_ONCE
    by_block: defaultdict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_block[row // block].append(row)
    for number, several in by_block.items():
        first = several[0]
        assert number * block <= first
        labels_RW, valid_RW = source.rows(first, several[-1] - first + 1)
        for row in several:
            yield row, labels_RW[row - first], valid_RW[row - first]


def _of_grid(
    source: ClassMap, rows: _Rows, points: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return the pixels of a grid with a random start, N×4 as `_of_strata` does.

    In rows whose pixels are smaller on the ground, columns lie further apart.
    """
    total = int(rows.pixels_R.sum())
    step = max(1.0, math.sqrt(total / points))
    row_start, column_start = rng.random(2)
    chosen = np.floor(np.arange(row_start * step, source.info.rows, step)).astype(np.int64)
    chosen = chosen[rows.pixels_R[chosen] > 0]
    mean_area = float(rows.areas_R.sum()) / total
    found = []
    for row, labels_W, valid_W in _rows_of(source, chosen.tolist()):
        across = max(1.0, step * mean_area * rows.pixels_R[row] / rows.areas_R[row])
        columns = np.floor(np.arange(column_start * across, source.info.columns, across))
        columns_N = columns.astype(np.int64)[valid_W[columns.astype(np.int64)]]
        part = np.full((len(columns_N), 4), WHOLE_MAP, np.int64)
        part[:, 0], part[:, 1], part[:, 2] = row, columns_N, labels_W[columns_N]
        found.append(part)
    drawn = np.concatenate([np.zeros((0, 4), np.int64), *found])
    if len(drawn) == 0:
        raise DataError(
            "SEG-D082",
            "the grid of points misses the map",
            file=source.path,
            observed=f"{points} points asked for, every {step:.1f} pixels",
            next_step="raise --points, or choose another --seed or design",
        )
    return drawn


class _Apart:
    """Keeps points that lie far enough from all that were kept before."""

    def __init__(self, source: ClassMap, metres: float) -> None:
        self._source, self._metres = source, metres
        self._kept = np.zeros((0, 3))

    def first_of(self, places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
        """Return the first so many of N×4 places that are far enough apart."""
        rows_N, columns_N = places[:, :2].T.astype(np.float64) + 0.5
        xyz_N3 = self._in_space(columns_N, rows_N)
        chosen: list[int] = []
        for at, here in enumerate(xyz_N3):
            if len(chosen) == count:
                break
            # The chord; the way on the ground is longer by its third power over 24 radii squared.
            if (np.square(self._kept - here).sum(axis=1) >= self._metres**2).all():
                self._kept = np.concatenate([self._kept, here[None]])
                chosen.append(at)
        return places[chosen]

    def _in_space(self, columns_N: Floats, rows_N: Floats) -> Floats:
        """Return places as N×3 metres from the centre of the ellipsoid."""
        where = ground.of_raster(self._source.info)
        assert where is not None
        longitude, latitude = where.radians(columns_N, rows_N)
        radius = where.geod.a / np.sqrt(1 - where.geod.es * np.sin(latitude) ** 2)
        return np.stack(
            [
                radius * np.cos(latitude) * np.cos(longitude),
                radius * np.cos(latitude) * np.sin(longitude),
                radius * (1 - where.geod.es) * np.sin(latitude),
            ],
            axis=1,
        )
