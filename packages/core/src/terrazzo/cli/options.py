"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from terrazzo.base.errors import ConfigError
from terrazzo.models.runtimes import ComputePrecision

if TYPE_CHECKING:
    from terrazzo.inference.tiled_prediction import Tiling
    from terrazzo.models.mask_refinement import MaskSettings
    from terrazzo.models.test_time_augmentation import Augmentation

SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
]

PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="Of the arithmetic: float32 or bfloat16.")
]

TtaOption = Annotated[
    str | None,
    typer.Option(
        metavar="WORD",
        help="Mean over augmented images: flips (4 times as long), flips+scales (13 times).",
    ),
]

EnsembleOption = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="RUN", help="A further run whose probabilities are averaged in; may be repeated."
    ),
]

RefineOption = Annotated[
    str | None,
    typer.Option(metavar="sam", help="One class inside each mask of Segment Anything."),
]

SamOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="The SAM or SAM 2 model, as transformers saves it."),
]

SamPointsOption = Annotated[
    int | None,
    typer.Option(min=1, max=128, help="Points along each side of the grid of prompts; 32."),
]


def require_ray(address: str | None, workers: int | None) -> None:
    """Refuse a number of workers without a cluster that has them.

    Raises:
        ConfigError: SEG-X076.
    """
    if workers is not None and address is None:
        raise ConfigError(
            "SEG-X076",
            "--workers counts the processes of a Ray cluster, and none is named",
            observed=f"--workers {workers}",
            allowed="--ray ADDRESS --workers N",
            next_step=f"--ray local --workers {workers}, or without Ray "
            f"`torchrun --nproc-per-node {workers} -m terrazzo …`",
        )


def compute_precision(word: str | None) -> ComputePrecision | None:
    """Return the precision of arithmetic that an option names.

    Raises:
        ConfigError: SEG-X083, it is not one that processors compute in.
    """
    if word is None:
        return None
    if word in get_args(ComputePrecision):
        return cast(ComputePrecision, word)
    raise ConfigError(
        "SEG-X083",
        "no such precision of arithmetic",
        observed=f"--precision {word}",
        allowed="float32, bfloat16",
        next_step="weights of float16 and int8 are made by `terrazzo export --precision`",
    )


def test_time_augmentation(word: str | None) -> Augmentation | None:
    """Return the test-time augmentation that an option names.

    Raises:
        ConfigError: SEG-X004.
    """
    if word is None:
        return None
    from terrazzo.models.test_time_augmentation import require_augmentation

    require_augmentation(word)
    return cast("Augmentation", word)


def image_tiling(tile: int | None, overlap: int | None) -> Tiling | None:
    """Return the tiles of images that options ask for; a quarter is shared where it is not said.

    Raises:
        ConfigError: SEG-X094 an overlap without tiles; SEG-X002, it is not smaller than a tile.
    """
    if tile is None:
        if overlap is not None:
            raise idle_option("--overlap", "--tile")
        return None
    from terrazzo.base import config_parsing
    from terrazzo.inference.tiled_prediction import Tiling

    shared = tile // 4 if overlap is None else overlap
    return config_parsing.parse(Tiling, {"tile": tile, "overlap": shared}, where="command line")


def mask_settings(
    refine: str | None, folder: Path | None, points: int | None
) -> MaskSettings | None:
    """Return where the masks of a refinement come from; None: none is asked for.

    Raises:
        ConfigError: SEG-X004 no such refinement; SEG-X094, one option without the other.
    """
    if refine is None:
        if folder is not None or points is not None:
            raise idle_option("--sam" if folder is not None else "--sam-points", "--refine sam")
        return None
    from terrazzo.models.mask_refinement import MaskSettings, require_refinement

    require_refinement(refine)
    if folder is None:
        raise idle_option("--refine sam", "--sam FOLDER")
    return MaskSettings(folder) if points is None else MaskSettings(folder, points=points)


def idle_option(option: str, needs: str) -> ConfigError:
    """Compose the error for an option without another one that it needs."""
    return ConfigError(
        "SEG-X094",
        f"{option} has nothing to work on",
        observed=f"{option} without {needs}",
        allowed=f"{option} with {needs}",
        next_step=f"add {needs}, or leave {option} out",
    )
