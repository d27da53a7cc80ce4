"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated, cast, get_args

import typer

from terrazzo.base.errors import ConfigError
from terrazzo.models.runtimes import ComputePrecision

SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
]

PrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="Of the arithmetic: float32 or bfloat16.")
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
