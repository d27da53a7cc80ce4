"""PyTorch's own form of a graph: the program of `torch.export`, alone or on its way to ONNX.

A program holds what the network did at one size. Where Python code of a network asks how large its
input is, the answer for that size is kept, and `torch.export` notes it as a guard. `torch.onnx`
drops the guards. So they are judged here, before anything is written.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram
from torch.utils._sympy.value_ranges import ValueRanges

from terrazzo.base.errors import ConfigError
from terrazzo.models.exporter import INPUT
from terrazzo_torch.export.graph import Graph, example, graph

if TYPE_CHECKING:
    from terrazzo.models.card import ModelCard
    from terrazzo.models.exporter import GraphForm
    from terrazzo_torch.trainer import TorchTrainer

SHAPES = ((1, 64, 128), (3, 61, 97), (1, 63, 65), (2, 96, 96), (1, 33, 31), (1, 7, 9), (1, 1, 1))
"""Batch, height and width at which a program is compared with its network: multiples of a stride,
one more and one less, and less than a stride."""
LARGEST_ERROR = {"float32": 1e-4, "float16": 1e-2}
"""Of a logit, as a share of the range of all."""


def write(
    trainer: TorchTrainer, card: ModelCard, form: GraphForm, folder: Path
) -> dict[str, str | int]:
    """Write ``model.pt2``, for `torch.export.load`.

    Raises:
        ConfigError: SEG-X080, this precision cannot be written, or the network decides by the size
            of its input.
    """
    program = export(graph(trainer, card, form), form, len(card.bands))
    torch.export.save(program, folder / "model.pt2", extra_files={"names.json": _names(form)})
    return {"torch": torch.__version__}


def _names(form: GraphForm) -> str:
    return json.dumps({"input": INPUT, "outputs": [form.output] + ["labels"] * form.labels})


def export(
    module: Graph, form: GraphForm, num_bands: int, *, size: tuple[int, int] = (61, 97)
) -> ExportedProgram:
    """Return the program of a graph that holds for every batch, and for every size or the form's.

    Args:
        module: in inference mode.
        form: of the graph.
        num_bands: C.
        size: rows and columns to look at where the form has none.

    Raises:
        ConfigError: SEG-X080, the network decides by the size of its input.
    """
    images = example(form, num_bands, size=size)
    rows = 1 if form.layout == "NHWC" else 2
    free = {0: Dim.DYNAMIC}
    if form.size is None:
        free |= {rows: Dim.DYNAMIC, rows + 1: Dim.DYNAMIC}
    try:
        with torch.no_grad():
            program = torch.export.export(module, (images,), dynamic_shapes={"image": free})
    except torch._dynamo.exc.UserError as error:
        raise _decides_by_size(_violations(str(error))) from error
    guards = [str(guard) for guard in getattr(program, "_guards_code", None) or ()]
    for guard in guards:
        if "==" in guard:
            raise _decides_by_size(guard)
    _widen(program)
    _compare(program, module, form, num_bands, guards)
    return program


def _widen(program: ExportedProgram) -> None:
    """Let a program take every size from 1 on.

    torch notes the ranges and inequalities for which it knows that the example stands. What lies
    outside may still be right, as `_compare` tells, but the program would refuse it.
    """
    for symbol, values in program.range_constraints.items():
        program.range_constraints[symbol] = ValueRanges(1, values.upper)
    if hasattr(program, "_guards_code"):
        program._guards_code = []


@torch.no_grad()
def _compare(
    program: ExportedProgram, module: Graph, form: GraphForm, num_bands: int, guards: list[str]
) -> None:
    run = program.module()
    for batch, *size in SHAPES:
        images = example(form, num_bands, batch=batch, size=(size[0], size[1]))
        expected = module(images)[0]
        largest = LARGEST_ERROR[form.precision] * (expected.max() - expected.min())
        at = "×".join(map(str, images.shape))
        try:
            found: Tensor = run(images)[0]
        except (RuntimeError, AssertionError) as error:
            reason = f"at {at}: {str(error).splitlines()[0]}"
            raise _decides_by_size(reason, _broken(guards, images)) from error
        if found.shape != expected.shape or (found - expected).abs().max() > largest:
            reason = f"another result at {at}"
            raise _decides_by_size(reason, _broken(guards, images))


def _broken(guards: list[str], images: Tensor) -> list[str]:
    """Return the guards, written in Python by torch, that do not hold for these images."""
    names = {"L": {"image": images}, "torch": torch}
    broken = []
    for guard in guards:
        try:
            # Written by torch in this process, from the network that is exported. What this torch
            # writes otherwise is left out: the list only words a message.
            holds = eval(guard, {"__builtins__": {}}, names)  # noqa: S307
        except Exception:
            holds = True
        if not holds:
            broken.append(guard)
    return broken


def _violations(message: str) -> str:
    """Return what torch found, without its advice on debugging torch."""
    found = [line.strip() for line in message.splitlines() if line.lstrip().startswith("- ")]
    return " ".join(line.partition(" If you're using")[0] for line in found) or message


def _decides_by_size(reason: str, guards: list[str] | None = None) -> ConfigError:
    asks = f"; it asks {'; '.join(guards[-3:])}" if guards else ""
    return ConfigError(
        "SEG-X080",
        "the network decides by the size of its input, so a written graph would be wrong",
        observed=(reason + asks)[:1000],
        allowed="a network whose Python code does the same at every size",
        next_step="in a network of your own, replace `if` on heights and widths by arithmetic; "
        "with any other, use `terrazzo predict` or `terrazzo serve` on the run itself",
    )
