"""Options that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

from terrazzo.base.errors import ConfigError

SetOption = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Change one setting; may be repeated."),
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
