"""How images were normalised that weights were trained on, where their folder says it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from terrazzo.base.config_parsing import resolve_path
from terrazzo.base.errors import ConfigError
from terrazzo.data.input_statistics import InputStatistics
from terrazzo.runs import saved_model
from terrazzo_torch import pretrained

_CARD = "model.toml"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")


def beside(option: str) -> InputStatistics | None:
    """Return what the place of weights says of the images they were trained on; None: nothing.

    A model folder of ours says it, so do folders that transformers, timm or
    segmentation_models.pytorch wrote.

    Args:
        option: ``model.options.pretrained``, not false.

    Raises:
        CheckpointError: SEG-C006, what says it is damaged.
    """
    path = resolve_path(option, where="model.options.pretrained")
    if option in ("encoder", "full") or not path.exists():
        return None
    # A file of ours lies beside what describes it; other files may be in any company.
    ours = (path, path / "model") if path.is_dir() else (path.parent,)
    for folder in ours:
        if (folder / _CARD).is_file() and (path.is_dir() or path.name == "weights.safetensors"):
            bands = saved_model.read_card(folder).bands
            if bands.per_image:  # there is no one mean and deviation
                return None
            return InputStatistics(bands.mean, bands.std, bands.dtype)
    return _published(path) if path.is_dir() else None


def _published(folder: Path) -> InputStatistics | None:
    if any((folder / name).is_file() for name in _PROCESSORS):
        return _of_processor(folder)
    if not (folder / "config.json").is_file():
        return None
    said = pretrained.read_json_object(folder / "config.json")
    if "_model_class" in said:
        return _of_smp(said)
    return _of_timm(said.get("pretrained_cfg"))


def _of_processor(folder: Path) -> InputStatistics | None:
    from terrazzo_torch.importing import image_processor

    try:
        found = image_processor.read(folder, 3)
    except ConfigError:  # a processor that the library has not, whose weights may do all the same
        return None
    return _of_colours(found.mean, found.std)


def _of_smp(said: Mapping[str, Any]) -> InputStatistics | None:
    from terrazzo_torch.importing import smp_folder

    found = smp_folder.normalization(said, said.get("encoder_name", "resnet34"), 3)
    return _of_colours(found.mean, found.std)


def _of_timm(said: object) -> InputStatistics | None:
    if not isinstance(said, Mapping):
        return None
    return _of_colours(_grey_levels(said.get("mean")), _grey_levels(said.get("std")))


def _grey_levels(values: object) -> tuple[float, ...] | None:
    if isinstance(values, list) and all(isinstance(each, int | float) for each in values):
        return tuple(255.0 * each for each in values)
    return None


def _of_colours(
    mean: tuple[float, ...] | None, std: tuple[float, ...] | None
) -> InputStatistics | None:
    if mean is None or std is None or len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        return None
    return InputStatistics(tuple(mean), tuple(std))
