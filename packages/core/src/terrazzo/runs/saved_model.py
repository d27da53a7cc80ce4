"""``model/``: the weights and all that prediction needs beside them.

``model.toml`` holds the backend, the model with its options, the precision of its arithmetic, the
label map, the bands with their mean and standard deviation, and the image size;
``weights.safetensors`` the arrays; ``MANIFEST.json`` the sums of both, which are compared whenever
they are read. Folders of version 0.1 may have no manifest: they load, and that is said.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pydantic
import tomli_w
from numpy.typing import NDArray
from pydantic import Field

from terrazzo.base import config_parsing
from terrazzo.base.atomic_write import flush_file, replacing_folder
from terrazzo.base.config_parsing import Frozen, Positive, Size, parse_toml
from terrazzo.base.disk_errors import unreadable, writing
from terrazzo.base.errors import CheckpointError
from terrazzo.base.recipe import ModelConfig, Precision, TrainingConfig
from terrazzo.data import labels
from terrazzo.data.pixel_size import PixelSizes, Range
from terrazzo.data.sample import Bands
from terrazzo.io import derived_bands, named_arrays
from terrazzo.io.derived_bands import Derivation
from terrazzo.io.pixels import NodataRule, ReadingRules, Scaling
from terrazzo.models import backends
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import State, Trainer
from terrazzo.runs import checkpoint, manifest

_CARD, _WEIGHTS = "model.toml", "weights.safetensors"
_KIND = manifest.Kind(
    "the model",
    "undo the change if you made one; else copy the folder again from where it was made, or train "
    "the model again",
)


class _BandsTable(Frozen):
    names: tuple[str, ...]
    dtype: str
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    per_image: bool = False
    """Whether each image is normalised by itself; then mean is 0 and std 1."""

    @pydantic.model_validator(mode="after")
    def _a_number_a_band(self) -> _BandsTable:
        lengths = {len(self.names), len(self.mean), len(self.std)}
        if len(lengths) > 1:
            msg = "names, mean and std are of different lengths"
            raise ValueError(msg)
        if self.per_image and (set(self.mean), set(self.std)) != ({0}, {1}):
            msg = "per_image is for mean 0 and std 1"
            raise ValueError(msg)
        return self


class _DerivedTable(Frozen):
    source_bands: tuple[str, ...]
    source_dtype: str
    kept: Annotated[int, Field(ge=0)]
    formulas: dict[str, str]

    @pydantic.model_validator(mode="after")
    def _of_known_bands(self) -> _DerivedTable:
        if not self.formulas or self.kept > len(self.source_bands):
            msg = "kept is beyond source_bands, or there is no formula"
            raise ValueError(msg)
        derived_bands.operands(self.formulas, self.source_bands)
        return self


class _CardTable(Frozen):
    format: int
    backend: str
    step: int
    precision: Precision = "auto"
    """Models of before it was stored have none."""
    image_size: Size | None = None
    pixel_metres: tuple[Range, Range] | Range | None = None
    """Width and height, the smallest and the largest of each; both alike until version 0.1."""
    nodata_rule: NodataRule = "auto"
    apply_scale: bool = False
    alpha: str | None = None
    scaling: Scaling | None = None
    model: ModelConfig
    bands: _BandsTable
    derived: _DerivedTable | None = None
    """Bands that are computed of those of files."""
    labels: dict[str, Any]

    @pydantic.model_validator(mode="after")
    def _bands_as_derived(self) -> _CardTable:
        derivation = _derivation(self.derived)
        if derivation is not None and derivation.names != self.bands.names:
            msg = "the bands are not those that are derived"
            raise ValueError(msg)
        return self


def write(folder: Path, card: ModelCard, weights: Mapping[str, NDArray[np.generic]]) -> None:
    """Write a model folder in place of an older one; complete or not at all.

    Raises:
        CheckpointError: SEG-C021, the weights hold NaN or infinity.
        ResourceError: SEG-R004, the disk is full or refuses; an older one is untouched.
    """
    _require_finite(weights, folder / _WEIGHTS)
    for leftover in folder.parent.glob(f"{folder.name}.tmp-*"):  # of version 0.1, killed
        shutil.rmtree(leftover, ignore_errors=True)
    needed = sum(array.nbytes for array in weights.values())
    with (
        writing(folder, problem="the model could not be written", needed_bytes=needed),
        replacing_folder(folder) as temporary,
    ):
        checkpoint.write_arrays(temporary / _WEIGHTS, weights)
        write_card(temporary, card)
        manifest.write(temporary, card.step)


def write_card(folder: Path, card: ModelCard) -> None:
    """Write ``model.toml`` into a folder that is being made, and flush it to the disk.

    Raises:
        OSError: the disk is full or refuses.
    """
    (folder / _CARD).write_text(tomli_w.dumps(_card_table(card)), encoding="utf-8")
    flush_file(folder / _CARD)


def _card_table(card: ModelCard) -> dict[str, Any]:
    table: dict[str, Any] = {
        "format": manifest.FORMAT,
        "backend": card.backend,
        "step": card.step,
        **_rules_table(card.rules),
        "precision": card.precision,
        "model": card.model.model_dump(mode="json"),
        "bands": {
            "names": list(card.bands.names),
            "dtype": card.bands.dtype,
            "mean": list(card.bands.mean),
            "std": list(card.bands.std),
            # Only where it is so: earlier versions, which do not know it, must refuse it then.
            **({"per_image": True} if card.bands.per_image else {}),
        },
        "labels": card.label_map.as_toml(),
    }
    if card.image_size is not None:
        table["image_size"] = list(card.image_size)
    if card.scaling is not None:
        table["scaling"] = [list(pair) for pair in card.scaling]
    if card.pixel_metres is not None:
        table["pixel_metres"] = [list(card.pixel_metres.width), list(card.pixel_metres.height)]
    return table


def _rules_table(rules: ReadingRules) -> dict[str, Any]:
    table = {name: rule for name, rule in rules._asdict().items() if rule is not None}
    derivation = table.pop("derivation", None)
    if derivation is not None:
        table["derived"] = {
            "source_bands": list(derivation.source_names),
            "source_dtype": derivation.source_dtype,
            "kept": derivation.kept,
            "formulas": dict(derivation.formulas),
        }
    return table


def _derivation(table: _DerivedTable | None) -> Derivation | None:
    if table is None:
        return None
    return Derivation(
        table.source_bands, table.source_dtype, table.kept, tuple(table.formulas.items())
    )


def read_card(folder: Path, note: Callable[[str], None] | None = None) -> ModelCard:
    """Read ``model.toml``.

    Args:
        folder: a model folder.
        note: told where the folder is of version 0.1 and so cannot be verified.

    Raises:
        CheckpointError: SEG-C012 there is no finished model here; SEG-C006 it is not what was
            written; SEG-C007 a newer format.
        ResourceError: SEG-R030, a file is there and cannot be read.
    """
    path = folder / _CARD
    listed = manifest.read(folder, _KIND)
    content = _read_bytes(path)
    if content is None:
        raise CheckpointError(
            "SEG-C012",
            "there is no trained model here",
            file=folder,
            observed=f"no {_CARD}",
            next_step="train it first, or finish the run with --resume",
        )
    if listed is not None:
        listed.verified(_CARD, content)
    elif note is not None:
        note(
            f"{folder} was written by an earlier version, without checksums: damage to its files "
            "would not be noticed"
        )
    values = parse_toml(content, where=path)
    if isinstance(number := values.get("format"), int):
        manifest.require_known_format(number, path, _KIND)
    table = config_parsing.parse(_CardTable, values, where=path)
    return ModelCard(
        backend=table.backend,
        model=table.model,
        label_map=labels.from_toml(table.labels, where=path),
        bands=Bands(
            table.bands.names,
            table.bands.dtype,
            table.bands.mean,
            table.bands.std,
            table.bands.per_image,
        ),
        image_size=table.image_size,
        step=table.step,
        pixel_metres=_pixel_sizes(table.pixel_metres),
        rules=ReadingRules(
            table.nodata_rule, table.apply_scale, table.alpha, _derivation(table.derived)
        ),
        scaling=table.scaling,
        precision=table.precision,
    )


def _pixel_sizes(stored: tuple[Range, Range] | Range | None) -> PixelSizes | None:
    if stored is None:
        return None
    first, second = stored
    if isinstance(first, tuple) and isinstance(second, tuple):
        return PixelSizes(first, second)
    assert not isinstance(first, tuple)
    assert not isinstance(second, tuple)
    return PixelSizes.square(first, second)


def read_weights(folder: Path) -> State:
    """Read the arrays of a model folder, and verify every byte of them.

    Raises:
        CheckpointError: SEG-C006 the file is missing or damaged; SEG-C021 it holds NaN or infinity.
        ResourceError: SEG-R030, it is there and cannot be read.
    """
    path = folder / _WEIGHTS
    listed = manifest.read(folder, _KIND)
    if listed is not None:
        listed.verify(_WEIGHTS)
    try:
        weights = named_arrays.read(path)  # the pages just read are still in memory
    except PermissionError as error:
        raise unreadable(path, error) from error
    except (OSError, named_arrays.SafetensorError) as error:
        found = getattr(error, "strerror", None) or error
        raise manifest.damaged(_KIND, path, found, "a file of safetensors") from error
    _require_finite(weights, path)
    return weights


def sha256_of_weights(folder: Path) -> str:
    """Return what tells these weights from any others, without reading them where it is listed.

    Raises:
        CheckpointError: as `read_weights`.
        ResourceError: as `read_weights`.
    """
    listed = manifest.read(folder, _KIND)
    known = None if listed is None else listed.sha256(_WEIGHTS)
    return known or hashlib.sha256(_read_bytes(folder / _WEIGHTS) or b"").hexdigest()


def _read_bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise unreadable(path, error) from error


def _require_finite(weights: Mapping[str, NDArray[Any]], path: Path) -> None:
    name = named_arrays.first_not_finite(weights)
    if name is None:
        return
    values = weights[name]
    raise CheckpointError(
        "SEG-C021",
        "the weights hold NaN or infinity: such a model predicts nothing",
        file=path,
        observed=f"{name}: {int((~np.isfinite(values)).sum())} of {values.size} values",
        allowed="finite numbers",
        next_step="train it again, with a lower learning rate or training.precision = 'float32'",
    )


def load(
    folder: Path,
    note: Callable[[str], None] | None = None,
    *,
    precision: Precision | None = None,
) -> tuple[ModelCard, Trainer]:
    """Build the model of a folder with its weights.

    The weights are read and verified while the network is being built.

    Args:
        folder: a model folder.
        note: as for `read_card`.
        precision: of the arithmetic; None: that of training.

    Raises:
        CheckpointError: the folder is incomplete or damaged, or its weights do not fit the model.
        ConfigError: the backend is not installed.
        ResourceError: SEG-R030, a file is there and cannot be read.
    """
    card = read_card(folder, note)
    # The weights are here, so those the training began with are not needed again.
    options = {name: value for name, value in card.model.options.items() if name != "pretrained"}
    model = card.model.model_copy(update={"options": options})
    # Only the forward pass is used: of the training settings, nothing but the precision matters.
    training = TrainingConfig(steps=1, precision=precision or card.precision)
    with ThreadPoolExecutor(1, "read_weights") as reader:
        weights = reader.submit(read_weights, folder)
        backend = backends.load(card.backend)
        trainer = backend.build(model, training, card.label_map, card.bands, seed=0)
    trainer.load_state(weights.result())
    return card, trainer
