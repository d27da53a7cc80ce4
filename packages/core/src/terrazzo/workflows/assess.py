"""`terrazzo assess`: accuracy of a map and areas of its classes, by reference points, as files."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.atomic_write import make_folder, refuse_folder, replace_text
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.output_paths import refuse_existing, refuse_inputs
from terrazzo.evaluation import reference_points
from terrazzo.evaluation.reference_points import Assessment

FILES = ("accuracy.csv", "error_matrix.csv", "assessment.html")


def assess(
    map_path: StrPath,
    points: StrPath,
    class_field: str,
    out: StrPath | None = None,
    *,
    design: str | None = None,
    stratum_field: str | None = None,
    layer: str | None = None,
    overwrite: bool = False,
) -> tuple[Assessment, tuple[Path, ...]]:
    """Assess a map and write what was found.

    Args:
        map_path: a GeoTIFF of classes.
        points: reference points.
        class_field: field of the points with the true class.
        out: a folder; None: ``MAP_assessment`` beside the map.
        design: as of `reference_points.assess`, and so are the next two.
        stratum_field: likewise.
        layer: likewise.
        overwrite: replace what is there.

    Returns:
        What was found, and the files: estimates and error matrix as CSV, and a page.

    Raises:
        ConfigError: as `reference_points.assess`; SEG-X032, a file would replace the map or the
            points.
        DataError: as `reference_points.assess`.
        CheckpointError: SEG-C002, a file exists.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    map_path, points = Path(map_path), Path(points)
    folder = map_path.with_name(f"{map_path.stem}_assessment") if out is None else Path(out)
    paths = tuple(folder / name for name in FILES)
    refuse_inputs(paths, [map_path, points])
    if not overwrite:
        refuse_existing(paths)
    for path in paths:
        refuse_folder(path)
    found = reference_points.assess(
        map_path,
        points,
        class_field,
        design=design,
        stratum_field=stratum_field,
        layer=layer,
    )
    from terrazzo.report import area_page  # Jinja: once there is something to write

    texts = (area_page.accuracy_csv(found), area_page.matrix_csv(found), area_page.render(found))
    make_folder(folder)
    for path, text in zip(paths, texts, strict=True):
        replace_text(path, text)
    return found, paths
