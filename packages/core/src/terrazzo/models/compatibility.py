"""Whether a trained model may be used on these pixels and these labels: the one place that decides.

Evaluation, prediction, the data check with a model and weights to start from all ask here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from terrazzo.base.errors import CheckpointError, ConfigError, DataError
from terrazzo.data import band_names, ground, pixel_size
from terrazzo.data.pixel_size import PixelSizes
from terrazzo.data.scaling import scaling_of, scaling_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from terrazzo.data.datasets import Split
    from terrazzo.data.labels import LabelMap
    from terrazzo.data.scene_stack import Stack
    from terrazzo.io.derived_bands import Derivation
    from terrazzo.io.pixels import ReadingRules, Scaling
    from terrazzo.io.rasters import RasterInfo
    from terrazzo.models.card import ModelCard

PIXEL_SIZE_TOLERANCE = 1.25
"""How many times larger or smaller pixels may be than those of training."""
_APPLIED = "value × scale + offset (apply_scale = true)"
_AS_STORED = "values as stored (apply_scale = false)"


@dataclass(frozen=True, slots=True)
class Pixels:
    """What is known of pixels before a model sees them.

    Attributes:
        file: where they lie, or the first file of a data set.
        band_names: C names in the order the model will get them.
        dtype: such as ``uint8``.
        pixel_metres: width and height, on the ground or physical; None: not known.
        scaling: scale and offset that files declare for each band; None: none do, or they are
            applied.
        applies_scale: whether scales and offsets that rasters declare are applied to them; None:
            these are no rasters.
        remedy: what a person can do about other bands.
        of_file: whether these are the bands of a file, from which derived bands will be computed
            as in training.
        derivation: what was computed of the bands of files by a recipe's own word; None: nothing.
        of_scene: whether a model will see parts of a scene, and never the whole.
    """

    file: Path
    band_names: tuple[str, ...]
    dtype: str
    pixel_metres: PixelSizes | None = None
    scaling: Scaling | None = None
    applies_scale: bool | None = None
    remedy: str = "use images with the bands the model was trained on"
    of_file: bool = False
    derivation: Derivation | None = None
    of_scene: bool = False


def pixels_of_stack(
    path: Path,
    grid: RasterInfo,
    stack: Stack,
    card: ModelCard,
    known: Sequence[str] = (),
) -> Pixels:
    """Return what is known of bands of GeoTIFF files that are given to a model.

    Args:
        path: of the raster that gives the grid.
        grid: what its header says.
        stack: the bands, in the model's order, with the names that count.
        card: what the model is.
        known: names of all bands of the scene; what a person can do is told by them.
    """
    sides = ground.pixel_sides(grid)
    return Pixels(
        path,
        stack.band_names,
        stack.dtype,
        None if sides is None else PixelSizes.of_pixels([sides]),
        None if card.rules.apply_scale else stack.scaling,
        card.rules.apply_scale,
        _band_remedy(tuple(known), card.file_bands),
        of_file=True,
        of_scene=True,
    )


def _band_remedy(names: tuple[str, ...], wanted: tuple[str, ...]) -> str:
    """Say which bands of a scene are those of a model; by name, where all are there."""
    found = band_names.positions(wanted, names)
    if found is None:
        return (
            "choose the scene's bands in the model's order with --bands, by name or number; the "
            f"model's are {', '.join(wanted)}, and the scene has {', '.join(names)}"
        )
    by_name = not any("," in name or name != name.strip() for name in wanted)
    words = wanted if by_name else tuple(str(position + 1) for position in found)
    return "take the scene's bands in the model's order: --bands " + ",".join(words)


def pixels_of_image(
    path: Path, image_HWC: NDArray[np.generic], band_names: tuple[str, ...]
) -> Pixels:
    """Return what is known of a decoded image."""
    return Pixels(path, band_names, str(image_HWC.dtype))


def pixels_of_split(split: Split, rules: ReadingRules) -> Pixels:
    """Return what is known of a data set that is read by `rules`; its first image is decoded.

    Raises:
        DataError: the image cannot be read.
    """
    image_HWC = split.source.read_image(0).image_HWC
    scaling = scaling_of(split)
    return Pixels(
        split.source.files(0)[0],
        split.source.band_names,
        str(image_HWC.dtype),
        pixel_size.pixel_sizes(split),
        None if rules.apply_scale else scaling,
        None if scaling is None else rules.apply_scale,
        derivation=rules.derivation,
        of_scene=split.source.is_cut_from_scenes,
    )


def chosen_bands(path: Path, names: tuple[str, ...], chosen: tuple[str, ...]) -> tuple[int, ...]:
    """Return the positions of a scene's bands in the model's order.

    Args:
        path: of its raster or first raster, for the message.
        names: of all its bands.
        chosen: its bands by name or number from 1; empty: all.

    Raises:
        ConfigError: SEG-X031, one names no band, or several.
    """
    return tuple(_position(path, word, names) for word in chosen) or tuple(range(len(names)))


def require_known_pixels(card: ModelCard, pixels: Pixels, *, any_pixel_size: bool = False) -> None:
    """Refuse pixels of another kind than those a model was trained on.

    Args:
        card: what the model is.
        pixels: what it is asked to see.
        any_pixel_size: take pixels of any size.

    Raises:
        DataError: SEG-D020 another number of bands, other bands or another order; SEG-D019
            another type of pixel; SEG-D094 a derived band is computed by another formula; SEG-D053
            another scale or offset; SEG-D028 pixels of another size; SEG-D147 parts of a scene, for
            a model that normalises whole images each by itself.
    """
    trained = card.rules.derivation
    found, wanted, dtype = pixels.band_names, card.bands.names, card.bands.dtype
    if pixels.of_file and trained is not None:
        wanted, dtype = trained.source_names, trained.source_dtype
    if len(found) != len(wanted):
        raise DataError(
            "SEG-D020",
            "the image has another number of bands than the model",
            file=pixels.file,
            observed=f"{len(found)} bands ({', '.join(found)})",
            allowed=f"{len(wanted)} ({', '.join(wanted)})",
            next_step=pixels.remedy,
        )
    if pixels.dtype != dtype:
        raise DataError(
            "SEG-D019",
            "the image has another type of pixel than the model was trained on",
            file=pixels.file,
            observed=pixels.dtype,
            allowed=dtype,
            next_step="convert it with the scale of the training images",
        )
    if band_names.contradict(found, wanted):
        raise DataError(
            "SEG-D020",
            "the bands of the image are not those of the model, or in another order",
            file=pixels.file,
            observed=", ".join(found),
            allowed=", ".join(wanted),
            next_step=pixels.remedy,
        )
    _require_whole_images(pixels, card)
    _require_same_derivation(pixels, trained)
    _require_same_scaling(pixels, card)
    if not any_pixel_size:
        _require_similar_pixel_size(pixels, card)


def _require_whole_images(pixels: Pixels, card: ModelCard) -> None:
    """Refuse a scene where each image is normalised by itself: each part would be so otherwise."""
    if pixels.of_scene and card.bands.per_image:
        raise DataError(
            "SEG-D147",
            "the model normalises each image by itself, and of a scene it sees parts",
            file=pixels.file,
            observed="a scene, whose parts have other means than the whole",
            allowed='whole images, as it was trained on (data.normalize = "image")',
            next_step="predict images (PNG, JPEG) that show what those of training show, or arrays "
            "(Python: load_model(RUN).predict); for scenes and other rasters, train with "
            'data.normalize = "dataset" or "robust"',
        )


def _require_same_derivation(pixels: Pixels, trained: Derivation | None) -> None:
    """Refuse a data set whose own formulas give a band of the model another meaning."""
    own = pixels.derivation
    if own is None or trained is None:
        return
    if not own.same_formulas(trained):
        raise DataError(
            "SEG-D094",
            "a derived band is computed by another formula than in training",
            file=pixels.file,
            observed=own.text,
            allowed=trained.text,
            next_step="give data.options.derived the formulas of the model",
        )
    if own.source_dtype != trained.source_dtype:
        raise DataError(
            "SEG-D019",
            "derived bands are computed of another type of pixel than in training",
            file=pixels.file,
            observed=own.source_dtype,
            allowed=trained.source_dtype,
            next_step="convert the images with the scale of the training images",
        )


def doubts_before_training(card: ModelCard, pixels: Pixels) -> tuple[str, ...]:
    """Return what is worth a warning where the weights of a model are trained on with other pixels.

    Training makes up for another scale or size; bands and their type must be those of the model.

    Args:
        card: of the model that gives its weights.
        pixels: of the new data set.

    Raises:
        DataError: SEG-D020, SEG-D019 as `require_known_pixels`.
    """
    own_reading = replace(pixels, scaling=None, applies_scale=None, of_scene=False)
    require_known_pixels(card, own_reading, any_pixel_size=True)
    found = []
    for require in (_require_same_scaling, _require_similar_pixel_size):
        try:
            require(pixels, card)
        except DataError as error:
            found.append(
                f"warning {error.code}: {error.problem}: {error.file}: {error.observed}; "
                f"the weights are of {error.allowed}"
            )
    return tuple(found)


def _require_same_scaling(pixels: Pixels, card: ModelCard) -> None:
    trained = card.scaling
    if pixels.applies_scale is not None and pixels.applies_scale != card.rules.apply_scale:
        raise DataError(
            "SEG-D053",
            "scales and offsets of the files are not treated as they were in training",
            file=pixels.file,
            observed=_APPLIED if pixels.applies_scale else _AS_STORED,
            allowed=_APPLIED if card.rules.apply_scale else _AS_STORED,
            next_step="set data.options.apply_scale = "
            + ("true" if card.rules.apply_scale else "false"),
        )
    if pixels.scaling is None or trained is None or pixels.scaling == trained:
        return
    raise DataError(
        "SEG-D053",
        "the image stores its values in another scale than those of training",
        file=pixels.file,
        observed=scaling_text(pixels.scaling),
        allowed=scaling_text(trained),
        next_step="train with data.options.apply_scale = true, or write the image in the scale of "
        "training",
    )


def _require_similar_pixel_size(pixels: Pixels, card: ModelCard) -> None:
    size, trained = pixels.pixel_metres, card.pixel_metres
    if size is None or trained is None:
        return
    tolerance = PIXEL_SIZE_TOLERANCE
    if size.within(trained, tolerance):
        return
    raise DataError(
        "SEG-D028",
        "the pixels of the image are not of the size the model was trained on",
        file=pixels.file,
        observed=str(size),
        allowed=f"{trained}, up to {tolerance} times more or less",
        next_step="resample it (a GeoTIFF with `gdalwarp -tr`), or let it pass with "
        "--any-pixel-size",
    )


def _position(path: Path, word: str, names: tuple[str, ...]) -> int:
    found = [number for number, name in enumerate(names, 1) if name == word]
    if len(found) > 1:
        raise ConfigError(
            "SEG-X031",
            f"--bands: the scene has {len(found)} bands {word!r}",
            file=path,
            observed=f"{word}: bands {' and '.join(map(str, found))}",
            allowed="a name that one band has, or a number",
            next_step="choose the band by its number",
        )
    if found:
        return found[0] - 1
    if word.isdigit() and 1 <= int(word) <= len(names):
        return int(word) - 1
    raise ConfigError(
        "SEG-X031",
        f"--bands: no band {word!r} in the scene",
        file=path,
        observed=word,
        allowed=", ".join(names) + f", or numbers in 1…{len(names)}",
        next_step="name the scene's bands in the order of the model's",
    )


def require_same_labels(trained: LabelMap, now: LabelMap, folder: Path) -> None:
    """Refuse to use a model on data with other classes than it was trained on.

    Raises:
        CheckpointError: SEG-D036, naming the first class that differs.
    """
    if trained.names == now.names:
        return
    for train_id in range(max(len(trained), len(now))):
        before, after = (
            names[train_id] if train_id < len(names) else "(none)"
            for names in (trained.names, now.names)
        )
        if before != after:
            raise CheckpointError(
                "SEG-D036",
                "the data's label map is not the model's",
                file=folder,
                observed=f"class {train_id} is {after!r} in the map {now.name!r}",
                allowed=f"{before!r}, as in the map {trained.name!r} the model was trained with",
                next_step="use the data with the label map of the model",
            )


def require_same_model(
    given: tuple[str, str], wanted: tuple[str, str], *, folder: str | Path
) -> None:
    """Refuse to begin a run with the weights of another model.

    Args:
        given: backend and model of the other run.
        wanted: of this one.
        folder: of the other run, for the message.

    Raises:
        ConfigError: SEG-X017.
    """
    if given != wanted:
        raise ConfigError(
            "SEG-X017",
            "the run with the weights to start from has another model",
            file=folder,
            observed=" ".join(given),
            allowed=" ".join(wanted),
            next_step="name a run of the same model; `terrazzo convert` moves a unet or "
            "a segformer between Keras and PyTorch",
        )
