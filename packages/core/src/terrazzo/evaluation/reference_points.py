"""How right a map is, and how large its classes are, by points where people know the class."""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError, unknown_name
from terrazzo.data import class_map
from terrazzo.data.class_map import ClassMap
from terrazzo.data.point_sampling import KINDS
from terrazzo.evaluation import map_assessment
from terrazzo.evaluation.map_assessment import Assessment
from terrazzo.io import rasters
from terrazzo.metrics import area_estimation

_OTHER_FIELDS = ("stratum_ha", "stratum_px", "design")
_SHOWN = 5  # values of a field in a message


@dataclass(frozen=True, slots=True)
class _Points:
    """N points of a file, as far as they lie on the map.

    Attributes:
        mapped_N: class on the map.
        reference_N: class by the field that was named.
        fields: N values of other fields, by name; those that the file has.
        all_fields: of all points of the file, used or not.
        left_out: points that are not used, by the reason.
    """

    mapped_N: NDArray[np.int64]
    reference_N: NDArray[np.int64]
    fields: dict[str, NDArray[Any]]
    all_fields: dict[str, tuple[Any, ...]]
    left_out: dict[str, int]


def assess(
    map_path: Path,
    points_path: Path,
    class_field: str,
    *,
    design: str | None = None,
    stratum_field: str | None = None,
    layer: str | None = None,
) -> Assessment:
    """Estimate the accuracy of a map and the areas of its classes.

    Args:
        map_path: a GeoTIFF of classes.
        points_path: GeoPackage, GeoJSON or Shapefile of points; those of ``terrazzo sample`` say by
            which design and from which strata they were drawn.
        class_field: field with the true class, by its name or its id; empty where it is not known.
        design: by which the points were drawn, for points of others; None: as the file says.
        stratum_field: field with the stratum of each point; None: ``stratum`` where the file has
            it, else the strata are the classes of the map.
        layer: of a file with several; None: that of ``terrazzo sample``, or the only one.

    Raises:
        ConfigError: SEG-X096, the design is not known, or the sizes of the strata; SEG-X004, no
            such design.
        DataError: SEG-D080, a stratum has too few points; SEG-D083, the shapes are no points, a
            class is not known, or no point can be used; as `map_assessment.sizes_on`
            and `rasters.read_features`.
    """
    source = class_map.open_map(map_path)
    on_map = map_assessment.sizes_on(map_path)
    points = _read(source, points_path, class_field, stratum_field, layer, sorted(on_map.of_class))
    ids = sorted({*on_map.of_class, *points.reference_N.tolist()})
    sizes_K = np.array([on_map.of_class.get(id_, 0.0) for id_ in ids], np.float64)
    mapped_N, reference_N = (
        np.searchsorted(ids, each) for each in (points.mapped_N, points.reference_N)
    )
    names = [source.name_of(id_) for id_ in ids]
    kind = _design(points_path, points, design)
    method, sizes = kind, sizes_K
    if kind != "stratified":
        counts_SKK = _counts(np.zeros_like(mapped_N), mapped_N, reference_N, 1, len(ids))
        _refuse_too_few(points_path, counts_SKK, np.ones(1), ["the whole map"])
        estimates = area_estimation.estimate(counts_SKK, np.ones(1))
    elif _strata_are_classes(points):
        method = "map classes"
        counts_SKK = _counts(mapped_N, mapped_N, reference_N, len(ids), len(ids))
        pixels_K = np.array([on_map.pixels.get(id_, 0) for id_ in ids])
        whole_K = counts_SKK.sum(axis=(1, 2)) >= np.maximum(pixels_K, 1)
        _refuse_too_few(points_path, counts_SKK, np.where(whole_K, 0.0, sizes_K), names)
        estimates = area_estimation.estimate(counts_SKK, sizes_K, whole_S=whole_K)
    else:
        method = "other strata"
        strata = sorted({*points.all_fields["stratum"]}, key=str)
        sizes, pixels_S = _sizes_of_strata(points_path, points, strata)
        at_N = np.array([strata.index(each) for each in points.fields["stratum"].tolist()], np.intp)
        counts_SKK = _counts(at_N, mapped_N, reference_N, len(strata), len(ids))
        whole_S = counts_SKK.sum(axis=(1, 2)) >= (np.inf if pixels_S is None else pixels_S)
        sampled_S = np.where(whole_S, 0.0, sizes)
        _refuse_too_few(points_path, counts_SKK, sampled_S, [f"stratum {each}" for each in strata])
        estimates = area_estimation.estimate(counts_SKK, sizes, pixels_S=pixels_S)
    return Assessment(
        map_path,
        points_path,
        method,
        on_map.unit,
        map_assessment.mapped_classes(ids, names, sizes_K.tolist(), estimates, float(sizes.sum())),
        estimates,
        f"{len(mapped_N)} reference points",
        points.left_out,
    )


def _counts(
    strata_N: NDArray[np.integer],
    mapped_N: NDArray[np.integer],
    reference_N: NDArray[np.integer],
    num_strata: int,
    num_classes: int,
) -> NDArray[np.int64]:
    counts_SKK = np.zeros((num_strata, num_classes, num_classes), np.int64)
    np.add.at(counts_SKK, (strata_N, mapped_N, reference_N), 1)
    return counts_SKK


def _read(
    source: ClassMap,
    path: Path,
    class_field: str,
    stratum_field: str | None,
    layer: str | None,
    map_ids: Sequence[int],
) -> _Points:
    if not rasters.is_vector(path):
        raise _wrong(path, path.suffix or "no suffix", ".gpkg, .geojson, .json or .shp")
    layer = layer or rasters.layer_of(path, preferred="reference_points")
    moved = source.info.crs is not None

    def column(field: str) -> rasters.Features:
        return rasters.read_features(
            path, source.info, attribute=field, layer=layer, reproject=moved
        )

    read = {"class": column(class_field)}
    known = rasters.attributes(path, layer)
    fields = {"stratum": stratum_field or "stratum"} | {name: name for name in _OTHER_FIELDS}
    read |= {
        name: column(field)
        for name, field in fields.items()
        if field in known or field == stratum_field
    }
    shapes = read["class"].geometries
    for shape in shapes:
        if shape["type"] != "Point":
            raise _wrong(path, f"a {shape['type']}", "points")
    x_N, y_N = np.array([shape["coordinates"][:2] for shape in shapes], np.float64).reshape(-1, 2).T
    mapped_N, on_map_N = _classes_at(source, x_N, y_N)
    values = read["class"].values
    told_N = np.array([not _is_empty(value) for value in values], bool)
    used_N = on_map_N & told_N
    if not used_N.any():
        raise _wrong(
            path,
            f"{len(values)} points, {int(told_N.sum())} with a class in {class_field!r}, "
            f"{int(on_map_N.sum())} on a class of the map",
            "points on the map whose class is told",
        )
    reference_N = _known_classes(path, source, values, used_N, map_ids)
    left_out = {
        f"{class_field!r} is empty": int((~told_N).sum()),
        "not on a class of the map": int((told_N & ~on_map_N).sum()),
    }
    others = {name: each.values for name, each in read.items() if name != "class"}
    return _Points(
        mapped_N[used_N],
        reference_N,
        {name: np.array(each, dtype=object)[used_N] for name, each in others.items()},
        others,
        {reason: count for reason, count in left_out.items() if count},
    )


def _classes_at(
    source: ClassMap, x_N: NDArray[np.float64], y_N: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the classes of the map at places, and whether it has one there."""
    columns_N, rows_N = source.info.to_pixels(x_N, y_N)
    inside_N = (rows_N >= 0) & (rows_N < source.info.rows)
    inside_N &= (columns_N >= 0) & (columns_N < source.info.columns)
    ids_N = np.zeros(len(x_N), np.int64)
    # In the order of the blocks of the file, each of which is decoded once.
    order = np.lexsort((columns_N // rasters.BLOCK, rows_N // rasters.BLOCK))
    for at in order[inside_N[order]].tolist():
        label_HW, valid_HW = rasters.read_label_with_mask(
            source.path, int(rows_N[at]), int(columns_N[at]), 1, 1
        )
        ids_N[at], inside_N[at] = int(label_HW[0, 0]), bool(valid_HW[0, 0])
    return ids_N, inside_N


def _is_empty(value: Any) -> bool:
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or str(value).strip() == ""


def _known_classes(
    path: Path,
    source: ClassMap,
    values: Sequence[Any],
    used_N: NDArray[np.bool_],
    map_ids: Sequence[int],
) -> NDArray[np.int64]:
    """Return the ids of the classes that people have told; names in any case of letters."""
    ids = {*map_ids, *range(len(source.names))}
    by_name = {source.name_of(id_).strip().casefold(): id_ for id_ in sorted(ids, reverse=True)}
    found, unknown = [], Counter[str]()
    for value in (values[at] for at in np.flatnonzero(used_N).tolist()):
        text = str(value).strip()
        id_ = by_name.get(text.casefold())
        if id_ is None and (number := _whole(value)) in ids:
            id_ = number
        if id_ is None:
            unknown[text] += 1
        else:
            found.append(id_)
    if unknown:
        shown = ", ".join(f"{text!r} ({count})" for text, count in unknown.most_common(_SHOWN))
        near = difflib.get_close_matches(next(iter(unknown)).casefold(), list(by_name), n=1)
        raise DataError(
            "SEG-D083",
            "the reference names classes that the map does not have",
            file=path,
            observed=shown,
            allowed=", ".join(f"{source.name_of(id_)} ({id_})" for id_ in sorted(ids)),
            next_step=(f"did you mean {near[0]!r}? " if near else "")
            + "give names or ids of the map's classes; leave the field empty where nobody knows",
        )
    return np.array(found, np.int64)


def _whole(value: Any) -> int | None:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return int(number) if number.is_integer() else None


def _design(path: Path, points: _Points, asked: str | None) -> str:
    if asked is not None:
        if asked not in KINDS:
            raise unknown_name("design", asked, KINDS)
        return asked
    told = {str(each) for each in points.all_fields.get("design", ()) if not _is_empty(each)}
    if len(told) == 1 and told <= set(KINDS):
        return told.pop()
    raise ConfigError(
        "SEG-X096",
        "by which design were the points drawn?",
        file=path,
        observed=f"design {', '.join(sorted(told))}" if told else "no field 'design'",
        allowed=", ".join(KINDS),
        next_step="say it with --design",
    )


def _strata_are_classes(points: _Points) -> bool:
    """Tell whether every point was drawn from the class that the map has there."""
    if "stratum" not in points.fields:
        return True
    told = [_whole(each) for each in points.fields["stratum"].tolist()]
    return bool(told == points.mapped_N.tolist())


def _sizes_of_strata(
    path: Path, points: _Points, strata: Sequence[Any]
) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
    """Return the size of each stratum, and its pixels where the file tells them."""
    found: dict[str, dict[Any, Any]] = {}
    for name in ("stratum_ha", "stratum_px"):
        values = points.all_fields.get(name)
        if values is None:
            continue
        pairs = {*zip(points.all_fields["stratum"], values, strict=True)}
        found[name] = dict(pairs)
        if len(pairs) != len(strata) or any(_is_empty(v) or float(v) <= 0 for _, v in pairs):
            raise _strata_unknown(path, f"{name!r} differs within a stratum, or is empty")
    if "stratum_ha" not in found:
        raise _strata_unknown(path, "strata that are not the classes of the map, no 'stratum_ha'")
    sizes_S = np.array([float(found["stratum_ha"][each]) for each in strata])
    pixels = found.get("stratum_px")
    return sizes_S, None if pixels is None else np.array([int(pixels[each]) for each in strata])


def _strata_unknown(path: Path, observed: str) -> ConfigError:
    return ConfigError(
        "SEG-X096",
        "how large are the strata that the points were drawn from?",
        file=path,
        observed=observed,
        allowed="a field 'stratum_ha' with the size of each point's stratum",
        next_step="add the field, or name with --stratum-field the strata that are meant",
    )


def _refuse_too_few(
    path: Path,
    counts_SKK: NDArray[np.int64],
    sizes_S: NDArray[np.float64],
    names: Sequence[str],
) -> None:
    points_S, percent_S = counts_SKK.sum(axis=(1, 2)), 100 * sizes_S
    lacking = np.flatnonzero((sizes_S > 0) & (points_S < 2)).tolist()
    if lacking:
        raise DataError(
            "SEG-D080",
            "a stratum has too few reference points for a standard error",
            file=path,
            observed=", ".join(
                f"{names[at]} ({percent_S[at] / sizes_S.sum():.3g} % of the area): {points_S[at]}"
                for at in lacking
            ),
            allowed="two or more in every stratum that has an area",
            next_step="interpret more points there",
        )


def _wrong(path: Path, observed: str, allowed: str) -> DataError:
    return DataError(
        "SEG-D083",
        "these are no reference points of the map",
        file=path,
        observed=observed,
        allowed=allowed,
        next_step="terrazzo sample MAP --out points.gpkg makes a file to fill in",
    )
