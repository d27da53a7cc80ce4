"""The models that see an image, and all that is done about them, as one predictor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from terrazzo.data.labels import LabelMap
from terrazzo.evaluation.prediction_method import MethodMember, MethodTiles, PredictionMethod
from terrazzo.inference.tiled_images import by_tiles
from terrazzo.inference.tiled_prediction import Tiling
from terrazzo.models.contract import Predictor
from terrazzo.models.ensembles import Member, mean_over_models
from terrazzo.models.mask_refinement import MaskSettings, refined
from terrazzo.models.test_time_augmentation import Augmentation, augmented


@dataclass(frozen=True, slots=True)
class Composition:
    """What is done beside asking a model about an image once.

    Attributes:
        augmentation: at test time, of what each model is shown; None: none.
        tiling: of images at their own scale; None: each image whole, at the model's size.
        masks: where probabilities are averaged at last; None: nowhere.
    """

    augmentation: Augmentation | None = None
    tiling: Tiling | None = None
    masks: MaskSettings | None = None

    def takes_own_size(self, members: Sequence[Member]) -> bool:
        """Tell whether images must come at their own size, not at that of the first model."""
        return len(members) > 1 or self.tiling is not None or self.masks is not None

    def of(
        self,
        members: Sequence[Member],
        label_map: LabelMap,
        say: Callable[[str], None] = lambda _: None,
    ) -> Predictor:
        """Return the predictor; where not `takes_own_size`, it takes images at the model's size.

        Args:
            members: one model, or those of an ensemble.
            label_map: of all of them.
            say: told where fewer tiles a forward pass have to do.
        """
        if not self.takes_own_size(members):
            return augmented(members[0].predictor, self.augmentation)
        shown = [
            replace(
                each,
                predictor=augmented(each.predictor, self.augmentation),
                image_size=None if self.tiling is not None else each.image_size,
            )
            for each in members
        ]
        predictor = mean_over_models(shown)
        if self.tiling is not None:
            predictor = by_tiles(predictor, self.tiling, label_map, say)
        return refined(predictor, self.masks)


PLAIN = Composition()
"""One model, asked once."""


def method_of(composition: Composition, names: tuple[MethodMember, ...]) -> PredictionMethod:
    """Return what the records of scores say of a way of predicting."""
    tiling, masks = composition.tiling, composition.masks
    return PredictionMethod(
        composition.augmentation,
        None if tiling is None else MethodTiles(tiling.tile, tiling.overlap, tiling.blend),
        names,
        None if masks is None else masks.record(),
    )
