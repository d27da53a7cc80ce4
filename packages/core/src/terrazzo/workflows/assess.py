"""`terrazzo assess`: accuracy of a map and areas of its classes, by reference points, as files."""

from __future__ import annotations

from pathlib import Path

from terrazzo.base.atomic_write import make_folder, refuse_folder, replace_text
from terrazzo.base.config_parsing import StrPath
from terrazzo.base.errors import ConfigError
from terrazzo.base.output_paths import refuse_existing, refuse_inputs
from terrazzo.evaluation import by_test_blocks, reference_points
from terrazzo.evaluation.map_assessment import Assessment

FILES = ("accuracy.csv", "error_matrix.csv", "assessment.html")


def assess(
    map_path: StrPath,
    points: StrPath | None,
    class_field: str = "reference",
    out: StrPath | None = None,
    *,
    run: StrPath | None = None,
    split: str = "test",
    design: str | None = None,
    stratum_field: str | None = None,
    layer: str | None = None,
    overwrite: bool = False,
) -> tuple[Assessment, tuple[Path, ...]]:
    """Assess a map and write what was found.

    Args:
        map_path: a GeoTIFF of classes.
        points: reference points; None: by the test blocks of a run.
        class_field: field of the points with the true class.
        out: a folder; None: ``MAP_assessment`` beside the map.
        run: whose test blocks are taken; exactly one of this and `points` is given.
        split: of the run.
        design: as of `reference_points.assess`, and so are the next two.
        stratum_field: likewise.
        layer: likewise.
        overwrite: replace what is there.

    Returns:
        What was found, and the files: estimates and error matrix as CSV, and a page.

    Raises:
        ConfigError: as `reference_points.assess` and `by_test_blocks.assess`; SEG-X096, points and
            run are given, or neither; SEG-X032, a file would replace the map or the points.
        DataError: as these two.
        CheckpointError: SEG-C002, a file exists.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    map_path = Path(map_path)
    source = run if points is None else points
    if source is None or not (run is None or points is None):
        raise ConfigError(
            "SEG-X096",
            "by what is the map to be assessed?",
            observed="reference points and a run" if source is not None else "neither",
            allowed="--reference POINTS, or --run RUN",
            next_step="terrazzo sample MAP --out points.gpkg makes points to fill in",
        )
    folder = map_path.with_name(f"{map_path.stem}_assessment") if out is None else Path(out)
    paths = tuple(folder / name for name in FILES)
    refuse_inputs(paths, [map_path, Path(source)])
    if not overwrite:
        refuse_existing(paths)
    for path in paths:
        refuse_folder(path)
    if points is None:
        found = by_test_blocks.assess(map_path, Path(source), split)
    else:
        found = reference_points.assess(
            map_path,
            Path(points),
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
