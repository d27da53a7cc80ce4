"""Settings that are allowed and cannot do what was meant: told of when a run begins."""

from __future__ import annotations

from collections.abc import Iterator

from terrazzo.base.recipe import Config

_FAR_LARGER = 1.5  # times the image at its largest scale: mostly padding
_MOST_IGNORED = 0.5


def doubtful_settings(
    recipe: Config,
    *,
    total_steps: int,
    training_images: int,
    of_rasters: bool,
    image_size: tuple[int, int],
    ignored_share: float,
) -> Iterator[str]:
    """Yield a line for each setting that cannot do what was meant.

    Args:
        recipe: of the run.
        total_steps: optimiser steps of the whole run.
        training_images: that are used.
        of_rasters: whether these are files that prediction takes for scenes, such as TIFF.
        image_size: rows and columns of a training image as the model's input sees it.
        ignored_share: of the training pixels.
    """
    schedule, augment = recipe.training.schedule, recipe.augment
    if schedule.warmup_steps >= total_steps:
        yield (
            f"warning: training.schedule.warmup_steps = {schedule.warmup_steps} is not shorter "
            f"than the run of {total_steps} steps: the learning rate never reaches "
            f"{schedule.learning_rate:g}"
        )
    if schedule.floor > schedule.learning_rate:
        yield (
            f"warning: training.schedule.floor = {schedule.floor:g} lies above "
            f"learning_rate = {schedule.learning_rate:g}: every step is taken at the floor"
        )
    stops = recipe.validation.patience
    if schedule.name == "plateau" and stops is not None and schedule.patience + 1 >= stops:
        yield (
            f"warning: training.schedule.patience = {schedule.patience} never lowers the learning "
            f"rate: it would after {schedule.patience + 1} validations without a better score, and "
            f"validation.patience = {stops} ends the run then; make it larger by some"
        )
    largest = [side * augment.scale[1] * _FAR_LARGER for side in image_size]
    if augment.crop is not None and any(
        side > most for side, most in zip(augment.crop, largest, strict=True)
    ):
        crop, image = ("×".join(map(str, size)) for size in (augment.crop, image_size))
        yield (
            f"warning: augment.crop = {crop} is far larger than the images ({image}): most of a "
            "crop is padding, which teaches nothing"
        )
    limit = recipe.data.limit.get("train", training_images)
    if limit > training_images:
        yield (
            f"warning: data.limit.train = {limit} is more than there are: "
            f"all {training_images} training images are used"
        )
    if recipe.data.normalize == "image" and of_rasters:
        yield (
            'warning: data.normalize = "image" cannot be had by tiles, which prediction cuts '
            "rasters such as these into: such a run is scored, and predicts PNG and JPEG files and "
            "arrays (Python: load_model(RUN).predict), but no raster"
        )
    if ignored_share > _MOST_IGNORED:
        yield (
            f"warning: {ignored_share:.1%} of the training pixels are ignored; if they are "
            "background, make it a class"
        )
