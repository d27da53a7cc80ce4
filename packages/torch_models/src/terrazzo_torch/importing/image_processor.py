"""How a pipeline of transformers prepares images, in the terms of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from transformers import AutoImageProcessor

from terrazzo.base.config_parsing import Size
from terrazzo.base.errors import ConfigError
from terrazzo.models.pretrained_errors import first_line
from terrazzo_torch import pretrained
from terrazzo_torch.transformers_messages import transformers_messages_hidden

FILES = ("preprocessor_config.json", "processor_config.json")


class Prepared(NamedTuple):
    """What is done to images.

    Attributes:
        mean: of each band in units of uint8 pixels; None: not known.
        std: likewise.
        image_size: as in `terrazzo.models.published_network.PublishedNetwork`.
        size_rule: likewise.
        labels_reduced: likewise.
        reverse_bands: bands go in as blue, green, red.
        unknown: why mean and std are not known.
    """

    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    image_size: Size | None
    size_rule: str | None
    labels_reduced: bool
    reverse_bands: bool
    unknown: str


def read(folder: Path, num_bands: int) -> Prepared:
    """Read the config of a folder's image processor, with the library's defaults.

    Raises:
        ConfigError: SEG-X156 it names code of its own; SEG-X160 the library refuses it.
        CheckpointError: SEG-C006, it is damaged.
    """
    here = [folder / name for name in FILES if (folder / name).is_file()]
    if not here:
        nothing = f"neither {' nor '.join(FILES)} in {folder}"
        return Prepared(None, None, None, nothing, False, False, nothing)
    for file in here:
        _require_no_code(file)
    try:
        with transformers_messages_hidden():
            processor = AutoImageProcessor.from_pretrained(
                folder, trust_remote_code=False, local_files_only=True
            )
    except Exception as error:  # the library has many kinds for a wrong value
        raise ConfigError(
            "SEG-X160",
            "transformers refuses the config of the image processor",
            file=here[0],
            observed=first_line(error)[:300],
            next_step="compare it with the publisher's, or take the file away and say "
            "--image-size and --normalize",
        ) from error
    size, rule = _size(processor)
    mean, std = _normalization(processor, num_bands)
    return Prepared(
        mean,
        std,
        size,
        rule,
        bool(getattr(processor, "do_reduce_labels", False)),
        bool(getattr(processor, "do_flip_channel_order", False)),
        "its image processor shifts values by an offset",
    )


def _require_no_code(file: Path) -> None:
    said = pretrained.read_json_object(file)
    for part in (said, said.get("image_processor")):
        if isinstance(part, dict) and "auto_map" in part:
            raise ConfigError(
                "SEG-X156",
                "images are prepared by code that comes with the network, and such code is never "
                "run",
                file=file,
                observed=f"auto_map: {part['auto_map']}",
                allowed="image processors that transformers itself has",
                next_step="ask its publisher for a version that the library has",
            )


def _normalization(
    processor: Any, num_bands: int
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Return mean and deviation in units of pixels: rescaling is folded in."""
    if getattr(processor, "offset", None):
        return None, None
    factor = float(processor.rescale_factor) if processor.do_rescale else 1.0
    if not getattr(processor, "do_normalize", False):
        return (0.0,) * num_bands, (1 / factor,) * num_bands
    mean, std = (
        _a_band(values, num_bands) for values in (processor.image_mean, processor.image_std)
    )
    if mean is None or std is None:
        return None, None
    return tuple(m / factor for m in mean), tuple(s / factor for s in std)


def _a_band(values: Any, num_bands: int) -> tuple[float, ...] | None:
    if isinstance(values, int | float):
        return (float(values),) * num_bands
    return tuple(map(float, values)) if len(values) == num_bands else None


def _size(processor: Any) -> tuple[Size | None, str | None]:
    """Return the one size of all images, or a rule that is none."""
    crop = _lengths(getattr(processor, "crop_size", None))
    crops = bool(getattr(processor, "do_center_crop", False)) and crop
    if not getattr(processor, "do_resize", False):
        return None, f"cut from the centre to {crop}" if crops else None
    wanted = _lengths(processor.size)
    told = ", ".join(f"{name} = {value}" for name, value in wanted.items())
    if getattr(processor, "do_split_image", False):
        told += ", and cut into squares"
    elif getattr(processor, "keep_aspect_ratio", False):
        told += ", with the image's own proportions"
    elif wanted.keys() == {"height", "width"} and (not crops or crop == wanted):
        divisor = int(getattr(processor, "size_divisor", None) or 1)
        rows, columns = (-(-wanted[n] // divisor) * divisor for n in ("height", "width"))
        return (rows, columns), None
    return None, told + (f", then cut from the centre to {crop}" if crops else "")


def _lengths(size: Any) -> dict[str, int]:
    if size is None:
        return {}
    known = ("height", "width", "shortest_edge", "longest_edge")
    found = {name: getattr(size, name, None) for name in known}
    if isinstance(size, dict):
        found = {name: size.get(name) for name in known}
    return {name: int(value) for name, value in found.items() if value}
