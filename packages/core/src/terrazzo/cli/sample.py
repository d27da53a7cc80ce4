"""``terrazzo sample``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def sample(
    map_path: Annotated[Path, typer.Argument(metavar="MAP", help="A GeoTIFF of classes.")],
    out: Annotated[Path, typer.Option(metavar="POINTS.gpkg", help="Where to write the points.")],
    points: Annotated[int, typer.Option(help="How many.")] = 400,
    design: Annotated[
        str, typer.Option(help="stratified (by the classes of the map), simple or systematic.")
    ] = "stratified",
    min_per_class: Annotated[
        int, typer.Option(help="Points that every class gets in a stratified design.")
    ] = 50,
    min_distance: Annotated[
        float, typer.Option(metavar="METRES", help="That two points are apart on the ground.")
    ] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the points.")] = False,
) -> None:
    """Draw random points from a map, for people to say what is really there (docs/areas.md).

    \b
    Examples:
        terrazzo sample map.tif --points 400 --out points.gpkg
        terrazzo sample map.tif --points 600 --design simple --min-distance 100 --out points.gpkg
    """
    from typing import cast

    from terrazzo.base import printable
    from terrazzo.data.point_sampling import Design, Kind
    from terrazzo.workflows import sample as sampling

    plan = Design(points, cast(Kind, design), min_per_class, min_distance, seed)
    drawn = sampling.sample(map_path, out, plan, overwrite=overwrite)
    width = max(len("stratum"), *(len(printable.one_line(each.name)) for each in drawn.strata))
    unit = "hectares" if drawn.strata[0].hectares == drawn.strata[0].hectares else "pixels"
    print(f"{'stratum':<{width}}  {unit:>15}  points")
    for each in drawn.strata:
        print(f"{printable.one_line(each.name):<{width}}  {each.size:>15,.2f}  {each.points:>6}")
    print(f"{len(drawn.rows_N)} points, to be filled in as {sampling.REFERENCE!r}")
    print(printable.one_line(str(out)))
