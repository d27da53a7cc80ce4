"""The options of data-set formats and models, by name.

A model's file imports its framework, and two frameworks do not live in one process: each model is
looked at in a process of its own, of which this module is the program too.
"""

from __future__ import annotations

import importlib
import subprocess
import sys

from terrazzo.base import settings_table
from terrazzo.base.errors import ResourceError, unknown_name
from terrazzo.data import datasets
from terrazzo.models import backends


def text(name: str, width: int) -> list[str]:
    """Return what a recipe can say below ``[data.options]`` or ``[model.options]``, in lines.

    Args:
        name: of a format, or of a model of any backend that is installed.
        width: of the lines, in characters.

    Raises:
        ConfigError: SEG-X004, no such format or model.
        ResourceError: SEG-R001, the process that looks at a model failed.
    """
    if name in datasets.formats():
        table = settings_table.of_class(datasets.load_format(name).Options)
        return [f"[data.options] of the format {name}", "", *settings_table.text(table, width)]
    found: list[str] = []
    known = list(datasets.formats())
    for backend in backends.installed():
        models = backends.load(backend).models()
        known += models
        if name in models:
            found += (
                ["", *_of_model(backend, name, width)] if found else _of_model(backend, name, width)
            )
    if not found:
        raise unknown_name("format or model", name, sorted(set(known)))
    return found


def _of_model(backend: str, name: str, width: int) -> list[str]:
    command = [sys.executable, "-W", "ignore", "-m", __name__, backend, name, str(width)]
    child = subprocess.run(command, capture_output=True, check=False)  # noqa: S603 - our own module
    if child.returncode:
        said = child.stderr.decode("utf-8", "replace").strip().splitlines()
        raise ResourceError(
            "SEG-R001",
            f"the options of {name} in {backend} could not be read",
            observed=said[-1] if said else f"the process ended with code {child.returncode}",
            next_step=f"see whether `terrazzo run --backend {backend}` works here",
        )
    return child.stdout.decode("utf-8").splitlines()


def _main() -> None:
    backend, name, width = sys.argv[1:]
    file = importlib.import_module(f"{backends.require(backend)}.models.{name}")
    lines = settings_table.text(settings_table.of_class(file.Options), int(width))
    answer = "\n".join([f"[model.options] of {name} in {backend}", "", *lines, ""])
    sys.stdout.buffer.write(answer.encode())


if __name__ == "__main__":
    _main()
