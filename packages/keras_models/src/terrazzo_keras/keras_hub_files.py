"""The descriptions that a preset of keras-hub holds, read as plain values."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from terrazzo.base.errors import CheckpointError, ConfigError
from terrazzo_keras.keras_hub_networks import SEGMENTER_FILE, SEGMENTERS


def read_segmenter(folder: Path) -> dict[str, Any]:
    """Return what ``task.json`` says of the layer behind the backbone.

    Raises:
        ConfigError: SEG-X155 the preset has none; SEG-X160, its outputs are no classes.
        CheckpointError: SEG-C006, it is damaged.
    """
    file = folder / SEGMENTER_FILE
    if not file.is_file():
        raise unknown(folder, f"no {SEGMENTER_FILE}: a backbone alone labels no pixels")
    said = read_object(file)
    if said.get("class_name") not in SEGMENTERS.values():
        raise unknown(file, f"class_name = {said.get('class_name')!r}")
    settings = said.get("config")
    number = settings.get("num_classes") if isinstance(settings, dict) else None
    if not isinstance(number, int) or number < 1:
        raise refused(file, f"num_classes = {number!r}", "a whole number")
    assert isinstance(settings, dict)
    activation = settings.get("activation")
    if activation not in (None, "linear", "softmax") or number == 1:
        raise refused(
            file,
            f"num_classes = {number}, activation = {activation!r}",
            "several classes of which each pixel has one: activation null or softmax",
        )
    return settings


def read_object(file: Path) -> dict[str, Any]:
    """Return a JSON object.

    Raises:
        CheckpointError: SEG-C006, the file is damaged or missing.
        ConfigError: SEG-X160, it holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            "SEG-C006",
            "the description of the network cannot be read",
            file=file,
            observed=f"{type(error).__name__}: {error}"[:200],
            next_step="copy the whole preset again from where it was published",
        ) from error
    if not isinstance(found, dict):
        raise refused(file, f"a {type(found).__name__}", "a table of settings")
    return found


def refused(file: Path, observed: str, allowed: str) -> ConfigError:
    """Return the error for what a preset says and cannot be taken over."""
    return ConfigError(
        "SEG-X160",
        "what this preset says cannot be taken over",
        file=file,
        observed=observed,
        allowed=allowed,
        next_step="compare it with the publisher's preset",
    )


def unknown(source: Path, observed: str) -> ConfigError:
    """Return the error for what is no preset of an image segmenter."""
    return ConfigError(
        "SEG-X155",
        "this is no published network that the Keras backend can import",
        file=source,
        observed=observed,
        allowed="a folder that save_to_preset of keras-hub wrote, of "
        + " or ".join(SEGMENTERS.values()),
        next_step="name such a folder; --backend torch takes those of transformers, "
        "segmentation_models.pytorch and torchvision",
    )
