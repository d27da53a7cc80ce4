"""Trained models for programs of others: what QGIS, MLflow, Triton and the like open.

One module a program: ``check`` refuses what cannot be, ``write`` fills a folder, the class
`Program` does with that folder what the program does, and ``verify`` holds that against the model
itself, before the folder is left where the user wants it.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import NamedTuple, Protocol, cast

from terrazzo.base.atomic_write import replacing_folder
from terrazzo.base.errors import unknown_name
from terrazzo.export_clients.order import ClientOptions, ClientOrder, require_meaningful
from terrazzo.export_clients.verification import Agreement
from terrazzo.models import runtimes
from terrazzo.models.exporter import GraphForm

CLIENTS = ("arcgis", "bioimageio", "deepness", "mlflow", "triton")
"""The words after ``--for``."""

__all__ = [
    "CLIENTS",
    "Agreement",
    "ClientOptions",
    "ClientOrder",
    "Written",
    "check",
    "fill",
    "write",
]


class _Client(Protocol):
    """What a module of a program holds."""

    OPTIONS: frozenset[str]
    """Names of the fields of `ClientOptions` that it reads."""

    def check(self, order: ClientOrder) -> None:
        """Refuse what cannot be written; the order need not hold the trainer yet.

        Raises:
            ConfigError: SEG-X090 or SEG-X091.
        """
        ...

    def form(self, order: ClientOrder) -> GraphForm:
        """Return the form of the graph that the program asks for."""
        ...

    def write(self, order: ClientOrder, folder: Path) -> tuple[str, ...]:
        """Fill a folder that is there and empty; return the limits to print."""
        ...

    def verify(self, order: ClientOrder, folder: Path) -> Agreement:
        """Hold what the program will answer against the model.

        Raises:
            CheckpointError: SEG-C070, they differ.
        """
        ...


class Written(NamedTuple):
    """What was written for a program.

    Attributes:
        limits: what a user must know, a line each.
        agreement: what was found when it was verified.
        form: of the graph.
    """

    limits: tuple[str, ...]
    agreement: Agreement
    form: GraphForm


def check(client: str, order: ClientOrder) -> None:
    """Refuse what cannot be written, before the model is loaded.

    Args:
        client: one of `CLIENTS`.
        order: may have None for a trainer, and no images.

    Raises:
        ConfigError: SEG-X004 unknown program; SEG-X081 a package is missing; SEG-X090 an option is
            missing, wrong or means nothing to this program; SEG-X091 the model is none for it.
    """
    module = _module(client)
    require_meaningful(client, order.options, module.OPTIONS)
    runtimes.require("onnxruntime")
    module.check(order)


def write(client: str, order: ClientOrder, folder: Path) -> Written:
    """Write what a program opens, verified; complete or not at all.

    Args:
        client: one of `CLIENTS`.
        order: the model, and what the user says of it.
        folder: takes the place of one that is there.

    Raises:
        ConfigError: as `check`.
        CheckpointError: SEG-C070, what was written does not answer as the model does.
        ResourceError: SEG-R004, the disk is full or refuses.
    """
    with replacing_folder(folder) as temporary:
        return fill(client, order, temporary)


def fill(client: str, order: ClientOrder, folder: Path) -> Written:
    """Write what a program opens into an empty folder, and verify it. All else as for `write`."""
    check(client, order)
    module = _module(client)
    limits = module.write(order, folder)
    return Written(limits, module.verify(order, folder), module.form(order))


def _module(client: str) -> _Client:
    if client not in CLIENTS:
        raise unknown_name("program to export for", client, CLIENTS)
    return cast(_Client, importlib.import_module(f"{__name__}.{client}"))
