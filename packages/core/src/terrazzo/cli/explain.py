"""``terrazzo metrics explain``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def explain(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="A scored run.")],
    split: Annotated[str, typer.Option(help="train, val or test.")] = "test",
) -> None:
    """Show what well-known libraries and papers would call the mean IoU of a run, and why.

    \b
    Example:
        terrazzo metrics explain runs/demo_torch
    """
    from terrazzo.base.console import PlainConsole
    from terrazzo.workflows import explain_metrics

    PlainConsole().print(explain_metrics.table(run_folder, split))
