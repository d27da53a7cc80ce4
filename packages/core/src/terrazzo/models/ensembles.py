"""Several models asked about one image, and the mean of their probabilities taken.

Each member is shown the bands it was trained on, in its own order, at its own size; it normalises
them by its own statistics. Its probabilities are brought back to the size of the image before the
mean is taken, so members of different sizes may stand in one ensemble.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import ConfigError, DataError
from terrazzo.data.model_input import seen_at_size
from terrazzo.io.resize import Size
from terrazzo.models.card import ModelCard
from terrazzo.models.contract import Predictor
from terrazzo.models.derived import Derived
from terrazzo.models.probabilities import batch_at_size


@dataclass(frozen=True, eq=False)
class Member:
    """One model of an ensemble.

    Attributes:
        predictor: the model, with test-time augmentation where that is asked for.
        image_size: rows and columns it is shown every image at; None: each at its own.
        columns: which bands of an image it is shown, in its order; None: as they are.
    """

    predictor: Predictor
    image_size: Size | None = None
    columns: tuple[int, ...] | None = None


def mean_over_models(members: Sequence[Member]) -> Predictor:
    """Return a model whose probabilities are means over the members, at the size of the images.

    One member alone is that model, with images resized to its size and probabilities back.
    """
    members = tuple(members)
    (first, *others) = members
    if not others and first.image_size is None and first.columns is None:
        return first.predictor
    return Derived(tuple(each.predictor for each in members), partial(_mean, members))


def _mean(members: Sequence[Member], images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    total_BHWK: NDArray[np.float32] | None = None
    for member in members:  # always in this order, so that the last bit is always the same
        found_BHWK = _asked(member, images_BHWC)
        if total_BHWK is None:
            total_BHWK = found_BHWK if len(members) == 1 else np.array(found_BHWK, np.float32)
        else:
            total_BHWK += found_BHWK
    assert total_BHWK is not None
    if len(members) > 1:
        total_BHWK *= np.float32(1 / len(members))
    return total_BHWK


def _asked(member: Member, images_BHWC: NDArray[np.generic]) -> NDArray[np.float32]:
    seen_BHWC = images_BHWC
    if member.columns is not None:
        seen_BHWC = np.ascontiguousarray(images_BHWC[..., list(member.columns)])
    size = images_BHWC.shape[1:3]
    if member.image_size not in (None, size):
        assert member.image_size is not None
        wanted, bands = member.image_size, member.predictor.bands
        seen_BHWC = np.stack([seen_at_size(image_HWC, wanted, bands) for image_HWC in seen_BHWC])
    return batch_at_size(member.predictor.predict(seen_BHWC), size)


def bands_of_member(first: ModelCard, other: ModelCard, name: str) -> tuple[int, ...] | None:
    """Return which bands of the first model's images another one is shown; refuse what is unfit.

    Args:
        first: tells classes, bands and type of pixel.
        other: a further member.
        name: of it, for messages.

    Returns:
        Numbers of the first model's bands in the order of the other; None: the same ones.

    Raises:
        ConfigError: SEG-X171, other classes, or classes in another order; SEG-X172, values are
            read or normalised otherwise.
        DataError: SEG-D020, it needs bands the first model does not; SEG-D019, another type.
    """
    ours, theirs = first.label_map, other.label_map
    if ours.names != theirs.names or ours.ignore_index != theirs.ignore_index:
        raise ConfigError(
            "SEG-X171",
            "the models of an ensemble must have the same classes in the same order",
            file=name,
            observed=", ".join(theirs.names),
            allowed=", ".join(ours.names),
            next_step="leave this model out, or train it with the label map of the others",
        )
    if first.bands.dtype != other.bands.dtype:
        raise DataError(
            "SEG-D019",
            "the models of an ensemble must take pixels of one type",
            file=name,
            observed=other.bands.dtype,
            allowed=first.bands.dtype,
            next_step="leave this model out",
        )
    _require_same_reading(first, other, name)
    _require_same_normalization(first, other, name)
    if first.bands.names == other.bands.names:
        return None
    lacking = [band for band in other.bands.names if band not in first.bands.names]
    if lacking:
        raise DataError(
            "SEG-D020",
            "a model of the ensemble needs bands that the first one does not",
            file=name,
            observed=f"bands {', '.join(other.bands.names)}",
            allowed=f"some of {', '.join(first.bands.names)}",
            next_step="name the model with the most bands first, or leave this one out",
        )
    return tuple(first.bands.names.index(band) for band in other.bands.names)


def _require_same_normalization(first: ModelCard, other: ModelCard, name: str) -> None:
    """Refuse members that cannot share an image that is normalised by itself before any sees it."""
    if not (first.bands.per_image or other.bands.per_image):
        return
    seen = [
        (card.bands.per_image, sorted(card.bands.names), card.image_size) for card in (first, other)
    ]
    if seen[0] != seen[1]:
        observed, allowed = (
            f"each image by itself: {per_image}; bands {', '.join(bands)}; size {size}"
            for per_image, bands, size in reversed(seen)
        )
        raise ConfigError(
            "SEG-X172",
            "images that are normalised each by itself are so once for all models of an ensemble, "
            "at one size and by the same bands",
            file=name,
            observed=observed,
            allowed=allowed,
            next_step="leave this model out, or train it with the data.normalize, bands and size "
            "of the others",
        )


def _require_same_reading(first: ModelCard, other: ModelCard, name: str) -> None:
    """Refuse members that read the values of files in different ways: they are read once."""
    rules = [
        (card.rules.nodata_rule, card.rules.apply_scale, card.rules.alpha)
        for card in (first, other)
    ]
    derived = [
        {} if card.rules.derivation is None else card.rules.derivation.as_plan()
        for card in (first, other)
    ]
    if rules[0] != rules[1] or derived[0] != derived[1]:
        raise ConfigError(
            "SEG-X172",
            "the models of an ensemble must read the values of files alike",
            file=name,
            observed=f"nodata, apply_scale, alpha: {rules[1]}; derived bands: {derived[1]}",
            allowed=f"nodata, apply_scale, alpha: {rules[0]}; derived bands: {derived[0]}",
            next_step="leave this model out, or train it with the reading rules of the others",
        )
