"""An exported folder: a trained model in the form that another runtime reads.

Beside the model's own files lie ``model.toml``, the card of `saved_model`; ``export.json``, what
the graph takes and gives and what was verified; ``README.md`` for people; ``MANIFEST.json`` with
the sums of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import pydantic

from terrazzo.base import config_parsing
from terrazzo.base.config_parsing import Frozen
from terrazzo.base.errors import ConfigError
from terrazzo.base.json_files import read_json, write_json
from terrazzo.models import runtimes
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Predictor
from terrazzo.models.exporter import INPUT, LABELS, ExportPrecision, GraphForm, Layout, Output
from terrazzo.models.runtimes import ComputePrecision
from terrazzo.models.runtimes.predictor import SessionPredictor
from terrazzo.runs import manifest, saved_model

NAME = "export.json"
FORMAT = 1
KIND = manifest.Kind(
    "the exported model",
    "copy the folder again from where it was made, or export the run again",
)


class _Form(Frozen):
    dtype: str
    layout: Layout
    normalization: str
    output: Output
    labels: bool
    size: tuple[int, int] | None
    precision: ExportPrecision
    opset: int


class _File(pydantic.BaseModel):
    """What is read of ``export.json``; the rest is for people."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore")

    format: int
    to: str
    graph: _Form


@dataclass(frozen=True)
class Exported:
    """What an exported folder holds.

    Attributes:
        folder: it lies here.
        card: what the model is.
        to: the format.
        form: what its graph takes and gives.
    """

    folder: Path
    card: ModelCard
    to: str
    form: GraphForm

    @property
    def runtime(self) -> str | None:
        """The runtime that predicts with it here; None: none does."""
        return next((name for name, to in runtimes.RUNTIMES.items() if to == self.to), None)


def is_exported(folder: Path) -> bool:
    """Tell whether a folder says that it holds an exported model."""
    return (folder / NAME).is_file()


def _derived(card: ModelCard) -> dict[str, Any]:
    """Say which of the bands are computed before the graph, and how."""
    derivation = card.rules.derivation
    return {} if derivation is None else {"derived_bands": dict(derivation.formulas)}


def describe(
    card: ModelCard,
    to: str,
    form: GraphForm,
    facts: Mapping[str, Any],
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what ``export.json`` says, without what was verified.

    Args:
        card: what the model is.
        to: the format.
        form: what the graph takes and gives.
        facts: versions and operator sets, from the exporter.
        run: where the weights come from.
    """
    inside = form.normalization == "inside"
    return {
        "format": FORMAT,
        "terrazzo": metadata.version("terrazzo"),
        "to": to,
        "run": dict(run),
        "model": card.model.model_dump(mode="json"),
        "backend": card.backend,
        "graph": asdict(form),
        "input": {
            "name": INPUT,
            "shape": list(_shape(form, len(card.bands))),
            "dtype": form.dtype,
            "bands": list(card.bands.names),
            "mean": list(card.bands.mean),
            "std": list(card.bands.std),
            "normalization": "inside the graph; NaN becomes the mean of its band"
            if inside
            else "the caller's: (value - mean) / std for each band, NaN becomes 0",
            "size": _size_rule(card, form),
            **_derived(card),
        },
        "outputs": [
            {"name": form.output, "shape": list(_shape(form, len(card.label_map)))},
            *(
                [{"name": LABELS, "shape": list(_shape(form, None)), "dtype": str(_dtype(card))}]
                if form.labels
                else []
            ),
        ],
        "classes": [
            {"id": number, "name": each.name, "colour": each.colour, "raw": list(each.raw)}
            for number, each in enumerate(card.label_map.classes)
        ],
        "facts": dict(facts),
    }


def _dtype(card: ModelCard) -> str:
    return card.label_map.dtype.name


def _shape(form: GraphForm, channels: int | None) -> tuple[str | int, ...]:
    rows, columns = form.size or ("height", "width")
    if channels is None:
        return ("batch", rows, columns)
    if form.layout == "NHWC":
        return ("batch", rows, columns, channels)
    return ("batch", channels, rows, columns)


def _size_rule(card: ModelCard, form: GraphForm) -> str:
    if form.size is not None:
        rule = f"{form.size[0]}×{form.size[1]} alone"
    else:
        rule = "any height and width: padded and cropped inside the graph"
    if card.image_size is not None:
        rows, columns = card.image_size
        rule += (
            f"; the model was trained on images resized to {rows}×{columns}: resize the image "
            "bilinearly before and the probabilities after"
        )
    return rule


def write(
    folder: Path, card: ModelCard, description: Mapping[str, Any], verified: Mapping[str, Any]
) -> None:
    """Add card, description and sums to a folder that holds the model's files; the sums last.

    Raises:
        OSError: the disk is full or refuses.
    """
    saved_model.write_card(folder, card)
    write_json(folder / NAME, {**description, "verified": dict(verified)})
    _share_alike(folder)
    manifest.write(folder, card.step)


def _share_alike(folder: Path) -> None:
    """Give every file the rights of ``export.json``: libraries write some that one user can read.

    safetensors does, with the folders of Hugging Face.
    """
    mode = (folder / NAME).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def read(folder: Path) -> Exported:
    """Read what an exported folder says, and verify every file of it.

    Raises:
        CheckpointError: SEG-C006 a file is missing or damaged; SEG-C007 a newer format.
        ConfigError: SEG-X001 or SEG-X002, ``export.json`` is not of this form.
        ResourceError: SEG-R030, a file is there and cannot be read.
    """
    listed = manifest.read(folder, KIND)
    if listed is None:
        raise manifest.damaged(KIND, folder / manifest.NAME, "no such file", "a list of sums")
    listed.verify()
    values = read_json(folder / NAME)
    if isinstance(number := values.get("format"), int):
        manifest.require_known_format(number, folder, KIND)
    table = config_parsing.parse(_File, values, where=folder / NAME)
    form = GraphForm(**table.graph.model_dump())
    return Exported(folder, saved_model.read_card(folder), table.to, form)


def sha256(folder: Path) -> str:
    """Return what tells the files of an exported folder from any others.

    Raises:
        CheckpointError: as `read`.
        ResourceError: as `read`.
    """
    listed = manifest.read(folder, KIND)
    if listed is None:
        raise manifest.damaged(KIND, folder / manifest.NAME, "no such file", "a list of sums")
    return listed.digest


def load(
    folder: Path,
    *,
    runtime: str | None = None,
    precision: ComputePrecision = "float32",
    fixed_size: tuple[int, int] | None = None,
) -> tuple[ModelCard, Predictor]:
    """Open an exported folder for prediction; no framework is needed.

    Args:
        folder: see `read`.
        runtime: that is to run it; None: the one that reads its format.
        precision: of the arithmetic.
        fixed_size: rows and columns that most images will have.

    Raises:
        CheckpointError: as `read`.
        ConfigError: SEG-X081 the runtime is not installed; SEG-X082 it does not read this format;
            SEG-X083 it cannot compute in this precision here.
    """
    exported = read(folder)
    require_readable(exported.to, folder, runtime)
    assert exported.runtime is not None
    session = runtimes.open_session(
        exported.runtime, folder, exported.form, precision=precision, fixed_size=fixed_size
    )
    card = exported.card
    return card, SessionPredictor(session, card.bands, card.label_map.dtype)


def require_readable(to: str, folder: Path, runtime: str | None) -> None:
    """Refuse a format that no runtime here reads, or not the one that was asked for.

    Raises:
        ConfigError: SEG-X082.
    """
    readable = {each: name for name, each in runtimes.RUNTIMES.items()}
    if to in readable and runtime in (None, readable[to]):
        return
    raise ConfigError(
        "SEG-X082",
        f"an exported model of the format {to!r} cannot be used "
        + ("for prediction here" if to not in readable else f"by the runtime {runtime!r}"),
        file=folder,
        observed=f"to = {to!r}" + ("" if runtime is None else f", runtime {runtime!r}"),
        allowed=f"--runtime {readable[to]}, or none"
        if to in readable
        else f"formats {', '.join(readable)}",
        next_step="name the run itself, or export it to another format"
        if to not in readable
        else "leave --runtime away",
    )
