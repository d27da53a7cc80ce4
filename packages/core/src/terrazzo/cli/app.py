"""The command ``terrazzo``: its subcommands, and one message for a user's mistake.

Nothing heavy is imported at the top of any, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from pathlib import Path
from typing import NoReturn

import typer

from terrazzo.base.atomic_write import not_written
from terrazzo.base.errors import TerrazzoError
from terrazzo.cli.check import check
from terrazzo.cli.compare import compare
from terrazzo.cli.convert import convert
from terrazzo.cli.data import data
from terrazzo.cli.evaluate import evaluate
from terrazzo.cli.explain import explain
from terrazzo.cli.listing import list_
from terrazzo.cli.predict import predict
from terrazzo.cli.run import run
from terrazzo.cli.study import study

app = typer.Typer(
    help="Train, evaluate and compare semantic segmentation models from Keras and PyTorch.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help is ten times faster than a formatted one
    pretty_exceptions_enable=False,
)
metrics_app = typer.Typer(help="What a score means.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(metrics_app, name="metrics")
metrics_app.command()(explain)
for command in (run, evaluate, study, check, predict, convert, compare, data):
    app.command()(command)
app.command("list")(list_)


_REFUSALS = {
    errno.EACCES,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ELOOP,
    errno.ENAMETOOLONG,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
    errno.ESTALE,
}
"""What a path that the user gave can lead to before any writer sees it."""


def main() -> NoReturn:
    """Run the command line; a user's mistake ends in one message and its exit code."""
    # A name that is no UTF-8 is printed with escapes, rather than ending the command.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except TerrazzoError as error:
        _end(error)
    except OSError as error:
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        _end(not_written(Path(os.fsdecode(error.filename)), error, problem="the disk refuses"))
    sys.exit(0)


def _end(error: TerrazzoError) -> NoReturn:
    print(f"error {error}", file=sys.stderr)
    sys.exit(error.exit_code)
