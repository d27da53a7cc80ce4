"""The command ``terrazzo``: its subcommands, and one message for a user's mistake.

Nothing heavy is imported at the top of any, so that ``--help`` answers at once.
"""

from __future__ import annotations

import errno
import os
import platform
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from terrazzo.base import printable
from terrazzo.base.disk_errors import not_allowed, not_written
from terrazzo.base.errors import ResourceError, TerrazzoError
from terrazzo.base.memory import host_ran_out, out_of_memory
from terrazzo.base.terminal import flush_output, guard_streams
from terrazzo.cli.assess import assess
from terrazzo.cli.check import check
from terrazzo.cli.compare import compare
from terrazzo.cli.convert import convert
from terrazzo.cli.data import data
from terrazzo.cli.evaluate import evaluate
from terrazzo.cli.explain import explain
from terrazzo.cli.export import export
from terrazzo.cli.import_ import import_
from terrazzo.cli.init import init
from terrazzo.cli.listing import list_
from terrazzo.cli.predict import predict
from terrazzo.cli.run import run
from terrazzo.cli.sample import sample
from terrazzo.cli.serve import serve
from terrazzo.cli.speed import speed
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
for command in (
    *(
        init,
        run,
        evaluate,
        study,
        check,
        predict,
        sample,
        assess,
        export,
        serve,
        convert,
        compare,
        speed,
        data,
    ),
):
    app.command()(command)
app.command("import")(import_)
app.command("list")(list_)


def _print_version(wanted: bool) -> None:
    """Say which releases are at work: what a report of a fault needs first."""
    if not wanted:
        return
    for name in ("terrazzo", *_PACKAGES):
        with suppress(PackageNotFoundError):
            print(f"{name} {version(name)}")
    print(f"python {platform.python_version()}, {platform.platform(terse=True)}")
    raise typer.Exit


@app.callback()
def _every_command(
    version_: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Show the releases of Terrazzo and of what it works with.",
        ),
    ] = False,
) -> None:
    """Take what stands before a command."""


def _no_memory(error: Exception) -> ResourceError:
    """Compose the error where no one nearer to it knew what was being made."""
    return out_of_memory(
        "working on this command",
        error,
        next_step="close other programs, raise the limit (`ulimit -v`), or lower "
        "training.batch_size, data.image_size, loader.threads, --tile or --workers",
    )


_PACKAGES = (
    *("terrazzo-torch", "terrazzo-keras", "torch", "keras", "tensorflow", "transformers", "timm"),
    *("numpy", "rasterio", "openvino", "onnxruntime"),
)

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
    guard_streams()
    try:
        try:
            app()
        finally:
            flush_output()
    except TerrazzoError as error:
        _end(error)
    except PermissionError as error:  # wherever it was met: it is never a fault of the program
        if error.filename is None:
            raise
        _end(not_allowed(Path(os.fsdecode(error.filename)), error))
    except OSError as error:
        if host_ran_out(error):
            _end(_no_memory(error))
        if error.errno not in _REFUSALS or error.filename is None:
            raise
        _end(not_written(Path(os.fsdecode(error.filename)), error, problem="the disk refuses"))
    except (MemoryError, ImportError, RuntimeError) as error:
        if not host_ran_out(error):
            raise
        _end(_no_memory(error))
    sys.exit(0)


def _end(error: TerrazzoError) -> NoReturn:
    if not error.told_elsewhere:
        print(f"error {printable.lines(str(error))}", file=sys.stderr)
    sys.exit(error.exit_code)
