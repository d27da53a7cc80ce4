"""``terrazzo assess``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from terrazzo.evaluation.map_assessment import Assessment


def assess(
    map_path: Annotated[Path, typer.Argument(metavar="MAP", help="A GeoTIFF of classes.")],
    reference: Annotated[
        Path | None,
        typer.Option(metavar="POINTS", help="GeoPackage, GeoJSON or Shapefile of points."),
    ] = None,
    class_field: Annotated[
        str, typer.Option(metavar="FIELD", help="Field with the true class: its name or its id.")
    ] = "reference",
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder; MAP_assessment by default.")
    ] = None,
    design: Annotated[
        str | None,
        typer.Option(help="stratified, simple or systematic; by default as the points say."),
    ] = None,
    stratum_field: Annotated[
        str | None, typer.Option(metavar="FIELD", help="Field with the stratum of a point.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Instead: by the test blocks of this run.")
    ] = None,
    split: Annotated[str, typer.Option(help="Of the run: train, val or test.")] = "test",
    layer: Annotated[str | None, typer.Option(help="Of a GeoPackage with several.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files.")] = False,
) -> None:
    """Estimate accuracy and true areas of a map from reference points (docs/areas.md).

    \b
    Examples:
        terrazzo assess map.tif --reference points.gpkg
        terrazzo assess map.tif --reference points.gpkg --class-field reference --out assessment
        terrazzo assess map.tif --run runs/demo_torch
    """
    from terrazzo.base import printable
    from terrazzo.evaluation.map_assessment import METHODS, QUESTIONS
    from terrazzo.workflows import assess as assessing

    found, paths = assessing.assess(
        map_path,
        reference,
        class_field,
        out,
        run=run,
        split=split,
        design=design,
        stratum_field=stratum_field,
        layer=layer,
        overwrite=overwrite,
    )
    print(f"{found.sample}; {METHODS[found.method]}")
    print(QUESTIONS[found.method])
    for reason, count in found.left_out.items():
        print(printable.one_line(f"{count} points left out: {reason}"))
    _print_table(found)
    overall = found.estimates.overall
    print(f"overall accuracy {overall.value:.3f} ± {overall.half_width:.3f}; ± is half of 95 %")
    for path in paths:
        print(printable.one_line(str(path)))


def _print_table(found: Assessment) -> None:
    from terrazzo.base import printable
    from terrazzo.report.number_formats import amount

    heads = ("class", f"mapped {found.unit}", f"estimated {found.unit}", "user's", "producer's")
    rows = [heads]
    for each in found.classes:
        users, producers = (
            "absent" if one.value != one.value else f"{one.value:.3f} ± {one.half_width:.3f}"
            for one in (each.users, each.producers)
        )
        area = f"{amount(each.estimated.value)} ± {amount(each.estimated.half_width)}"
        name = printable.one_line(each.name)
        rows.append((name, amount(each.mapped), area, users, producers))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        aligned = (f"{text:>{width}}" for text, width in zip(numbers, widths[1:], strict=True))
        print(f"{name:<{widths[0]}}", *aligned, sep="  ")
