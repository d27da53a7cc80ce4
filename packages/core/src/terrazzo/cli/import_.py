"""``terrazzo import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A folder as save_pretrained writes it, a weight file with --architecture, or "
            "OWNER/NAME on the hub with --revision.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The run folder to write.")],
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="MAP",
            help="Label map: a name or a path. By default that of --data, or one of the network's "
            "own classes.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The run's own data: a recipe, or a TOML with [data] alone.",
        ),
    ] = None,
    backend: Annotated[str, typer.Option(help="Whose framework computes it.")] = "torch",
    map_: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            metavar="THEIRS=OURS",
            help="What a class of the network means; without OURS it is left out. Repeatable.",
        ),
    ] = None,
    in_order: Annotated[
        bool,
        typer.Option("--in-order", help="Take the classes by position, whatever their names."),
    ] = False,
    image_size: Annotated[
        str | None,
        typer.Option(
            metavar="ROWSxCOLUMNS|files",
            help="Size images are brought to, or as they are; by default as the source says.",
        ),
    ] = None,
    normalize: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|none|MEAN/STD",
            help="Normalisation of the bands, of values in 0…1; by default as the source says.",
        ),
    ] = None,
    architecture: Annotated[
        str | None,
        typer.Option(help="Of a weight file of torchvision, such as deeplabv3_resnet50."),
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit of a repository on the hub, 40 digits.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the run in RUN first.")
    ] = False,
) -> None:
    """Make a run of a network that others trained: evaluate, compare, apply it, train it on.

    \b
    Examples:
        terrazzo import segformer_folder --labels cityscapes_19 --out runs/published
        terrazzo import my_unet --labels camvid --in-order --normalize imagenet --out runs/theirs
        terrazzo import preset --backend keras --labels map.toml --in-order --out runs/hub
        terrazzo import weights.pth --architecture fcn_resnet50 --labels map.toml --out runs/fcn
        terrazzo evaluate runs/published --data recipes/camvid/unet_quick.toml
    """
    from terrazzo.base import printable
    from terrazzo.base.progress import PlainLines
    from terrazzo.models.published_network import Asked
    from terrazzo.workflows import import_model

    import_model.import_model(
        source,
        out,
        labels=labels,
        data=data,
        backend=backend,
        said=map_ or (),
        in_order=in_order,
        preprocessing=import_model.Preprocessing(image_size, normalize),
        asked=Asked(architecture, revision),
        overwrite=overwrite,
        progress=PlainLines(),
    )
    print(printable.one_line(str(out)))
