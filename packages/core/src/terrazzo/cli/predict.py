"""``terrazzo predict``."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, cast

import typer

from terrazzo.cli.options import (
    EnsembleOption,
    PrecisionOption,
    RefineOption,
    SamOption,
    SamPointsOption,
    TtaOption,
    compute_precision,
    mask_settings,
    test_time_augmentation,
)


def predict(
    run_folder: Annotated[
        Path, typer.Argument(metavar="RUN", help="A finished run, or an exported folder.")
    ],
    out: Annotated[Path, typer.Option(help="MAP.tif for one scene, otherwise a folder.")],
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SCENE…", help="GeoTIFF, JP2, ….SAFE folders, images, folders."),
    ] = None,
    scene: Annotated[
        list[str] | None,
        typer.Option(
            metavar="LIST",
            help="Scenes of several files: scenes.toml, scenes.csv, a STAC item or collection "
            "(.json), or a pattern DIR/{tile}_{band}.tif; may be repeated.",
        ),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(
            help="Files of a scene, and masks, on other grids than its first: exact refuses, "
            "reproject brings them onto it."
        ),
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(
            help="Rows and columns of a tile; 512, PNG and JPEG of 4 megapixels whole, or those "
            "too, at their own scale, where it is given."
        ),
    ] = None,
    overlap: Annotated[int, typer.Option(help="Pixels that two tiles share.")] = 128,
    blend: Annotated[
        str, typer.Option(help="How tiles are blended: linear, cosine or none.")
    ] = "linear",
    batch_size: Annotated[
        int | None, typer.Option(help="Tiles in one forward pass; 1 on a processor, else 4.")
    ] = None,
    bands: Annotated[
        str, typer.Option(metavar="A,B,…", help="Scene bands in the model's order.")
    ] = "",
    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULE=FILE",
            help="A mask: sentinel2_scl=FILE, bits:0,1,3,4=FILE, …; may be repeated.",
        ),
    ] = None,
    area: Annotated[
        Path | None,
        typer.Option(metavar="AREA.gpkg", help="Predict only inside these polygons, in any CRS."),
    ] = None,
    area_layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Layer of an --area with several.")
    ] = None,
    any_pixel_size: Annotated[
        bool, typer.Option("--any-pixel-size", help="Take pixels of another size than trained on.")
    ] = False,
    allow_remote: Annotated[
        bool, typer.Option("--allow-remote", help="Read URLs and GDAL's /vsi… paths.")
    ] = False,
    formats: Annotated[
        str, typer.Option(metavar="ENVI,HFA", help="Also read scenes of these formats.")
    ] = "",
    allow_vrt: Annotated[
        bool,
        typer.Option("--allow-vrt", help="Also read VRT of files in their folder or below."),
    ] = False,
    plane: Annotated[
        str,
        typer.Option(metavar="z=3,t=0", help="Which plane of stacks is meant, counted from 0."),
    ] = "",
    probabilities: Annotated[
        bool,
        typer.Option(
            "--probabilities",
            help="Also write MAP_probabilities.tif; of images a 16-bit PNG a class.",
        ),
    ] = False,
    uncertainty: Annotated[
        str | None,
        typer.Option(
            metavar="MEASURE", help="Also write MAP_uncertainty.tif, by entropy or margin."
        ),
    ] = None,
    tta: TtaOption = None,
    ensemble: EnsembleOption = None,
    refine: RefineOption = None,
    sam: SamOption = None,
    sam_points: SamPointsOption = None,
    polygons: Annotated[
        Path | None,
        typer.Option(metavar="OUT.gpkg", help="Also write polygons; a folder for several inputs."),
    ] = None,
    layer_per_class: Annotated[
        bool, typer.Option("--layer-per-class", help="A layer of polygons for each class.")
    ] = False,
    min_area: Annotated[
        str | None,
        typer.Option(
            metavar="AREA",
            help="Give patches below 500m2, 0.5ha, 1km2 or 20px to a neighbour before polygons.",
        ),
    ] = None,
    sieve_map: Annotated[bool, typer.Option("--sieve-map", help="Do so in the map, too.")] = False,
    labels_for: Annotated[
        str | None,
        typer.Option(metavar="PROGRAM", help="Also write masks to correct in cvat or labelstudio."),
    ] = None,
    contours: Annotated[
        bool, typer.Option("--contours", help="Overlays of images: borders, not colours.")
    ] = False,
    raw_values: Annotated[
        bool,
        typer.Option("--raw-values", help="Masks of images: the label map's raw values, not ids."),
    ] = False,
    cog: Annotated[
        bool, typer.Option("--cog", help="Write cloud optimised GeoTIFF with overviews.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the rows of scenes.")
    ] = None,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster to share them with.")
    ] = None,
    runtime: Annotated[
        str | None,
        typer.Option(
            help="torch or keras, openvino, onnxruntime; by default OpenVINO where it is installed "
            "and there is no GPU."
        ),
    ] = None,
    precision: PrecisionOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a map that was interrupted.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the maps.")] = False,
) -> None:
    """Predict scenes larger than memory, or images, with the model of a run.

    \b
    Examples:
        terrazzo predict runs/demo_torch scene.tif --out map.tif
        terrazzo predict runs/demo_torch scene.tif --out map.tif --resume
        terrazzo predict runs/demo_torch scene.tif --out map.tif --polygons map.gpkg --workers 2
        terrazzo predict runs/demo_torch scene.tif --out map.tif --polygons map.gpkg --min-area 20m2
        terrazzo predict runs/demo_torch scene.tif --out map.tif --mask landsat_qa_pixel=QA.TIF
        terrazzo predict runs/sentinel --scene scenes.toml --align reproject --out maps/
        terrazzo predict runs/sentinel --scene 'tiles/{tile}_{band}.tif' --out maps/
        terrazzo predict runs/camvid_unet_quick photos/ --out maps/
        terrazzo predict runs/crops S2A_MSIL2A_20240613T102021.SAFE --out map.tif
        terrazzo predict runs/demo_torch scene.tif --out map.tif --area district.geojson
        terrazzo predict runs/nuclei stack.ome.tif --out map.tif --plane z=3,t=0
        terrazzo predict exported/demo scene.tif --out map.tif
        terrazzo predict runs/camvid_unet_quick photos/ --out maps/ --labels-for cvat
        terrazzo predict runs/seed0 photos/ --ensemble runs/seed1 --tta flips+scales --out maps/
        terrazzo predict runs/camvid_unet_quick photos/ --refine sam --sam models/sam --out maps/
    """
    from terrazzo.base import config_parsing, printable, progress
    from terrazzo.data import class_areas
    from terrazzo.data.mask_files import parse_mask, permitting_masks
    from terrazzo.data.scene_stack import Placing
    from terrazzo.inference import predict, scene_lists
    from terrazzo.inference.min_area import MinArea
    from terrazzo.inference.outputs import Settings
    from terrazzo.inference.scene_files import SceneFiles
    from terrazzo.inference.tiled_prediction import Tiling
    from terrazzo.io import raster_formats, remote_paths
    from terrazzo.io.microscopy.planes import parse_plane

    tiles = {"overlap": overlap, "blend": blend, "batch_size": batch_size}
    tiles |= {} if tile is None else {"tile": tile}
    more: dict[str, Any] = {} if tile is None else {"whole_images_up_to": 0}
    if align is not None:
        more["align"] = config_parsing.parse(Placing, {"align": align}, where="command line").align
    settings = Settings(
        tiling=config_parsing.parse(Tiling, tiles, where="command line"),
        bands=tuple(word.strip() for word in bands.split(",") if word.strip()),
        area=area,
        area_layer=area_layer,
        probabilities=probabilities,
        uncertainty=cast(Any, uncertainty),
        augmentation=test_time_augmentation(tta),
        ensemble=tuple(ensemble or ()),
        refinement=mask_settings(refine, sam, sam_points),
        cloud_optimised=cog,
        polygons=polygons,
        layer_per_class=layer_per_class,
        min_area=None if min_area is None else MinArea.parse(min_area),
        sieve_map=sieve_map,
        labels_for=labels_for,
        contours=contours,
        raw_values=raw_values,
        masks=tuple((Path(each.file), each) for each in map(parse_mask, mask or ())),
        any_pixel_size=any_pixel_size,
        workers=workers,
        ray=ray,
        runtime=runtime,
        precision=compute_precision(precision),
        plane=parse_plane(plane),
        resume=resume,
        overwrite=overwrite,
        **more,
    )
    if allow_remote:
        inputs = [remote_paths.allow(path) for path in inputs or []]
        masks = tuple((remote_paths.allow(path), each) for path, each in settings.masks)
        settings = replace(settings, masks=masks)
    named = raster_formats.parse_formats(formats)
    masks = permitting_masks(settings.masks, named, allow_vrt=allow_vrt)
    settings = replace(settings, masks=masks)
    files: list[Path | SceneFiles] = [
        raster_formats.permit_scene(path, named, allow_vrt=allow_vrt) for path in inputs or []
    ]
    lists = [scene_lists.read(each, allow_remote=allow_remote) for each in scene or []]
    files += (each.permitting(named, allow_vrt=allow_vrt) for each in chain(*lists))
    with progress.shown("predict") as shown:
        maps = predict.predict(run_folder, files, out, settings, progress=shown)
    for each in maps:
        score = "" if each.tally is None else f"  seam score {each.tally.seam_score:.2f}"
        score = "" if score.endswith("nan") else score  # of one tile, which has no seams
        print(f"{printable.one_line(str(each.path))}{score}")
        if each.areas is not None:
            print(*class_areas.text_lines(class_areas.read(each.areas)), sep="\n")
