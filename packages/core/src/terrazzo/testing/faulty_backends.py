"""For each check of `trainer_checks`, backends that break just that promise and must be caught.

Each imitates a mistake that real training code has made. A check without a faulty one may be one
that cannot fail.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.recipe import ModelConfig, TrainingConfig
from terrazzo.data.labels import LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models.parameter_groups import Part
from terrazzo.testing.reference.backend import ReferenceBackend
from terrazzo.testing.reference.models.pixel_softmax import Options
from terrazzo.testing.reference.trainer import ReferenceTrainer, Step

Images = NDArray[Any]
Labels = NDArray[np.integer]
Probabilities = NDArray[np.float32]
StoredState = Mapping[str, NDArray[np.generic]]


class WantsMoreArguments(ReferenceTrainer):
    """Asks core for something the contract does not know."""

    def train_step(self, batch: Batch, learning_rate: float, scale: float = 1.0) -> Step:
        """Take an argument too many."""
        return super().train_step(batch, learning_rate * scale)


class ReturnsLogits(ReferenceTrainer):
    """Leaves the softmax to the caller."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Return logarithms."""
        return np.log(super().predict(images_BHWC))


class CountsClassesFromOne(ReferenceTrainer):
    """Gives labels that are not the argmax of the probabilities."""

    def predict_labels(self, images_BHWC: Images) -> Labels:
        """Return every label one too high."""
        return super().predict_labels(images_BHWC) + np.uint8(1)


class NormalisesInPlace(ReferenceTrainer):
    """Saves a copy at the caller's cost."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Change the images that were lent."""
        before = images_BHWC.copy()
        images_BHWC -= images_BHWC.mean().astype(images_BHWC.dtype)
        return super().predict(before)


class IgnoresInTheCallersLabels(ReferenceTrainer):
    """Replaces IGNORE by a class, in place, before it masks the loss."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Change the labels that were lent."""
        result = super().train_step(batch, learning_rate)
        batch.labels_BHW[batch.labels_BHW == self._ignore] = 0
        return result


class StaysInTrainingMode(ReferenceTrainer):
    """Predicts with the statistics of the batch."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Centre the images of a batch together."""
        centred_BHWC = images_BHWC - images_BHWC.mean(axis=(0, 1, 2)) + self._mean_C
        return super().predict(centred_BHWC)


class TouchesItsStateInPredict(ReferenceTrainer):
    """Moves something on in every forward pass, like batch-norm statistics or a random stream."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Count a prediction as a step."""
        self._steps += 1
        return super().predict(images_BHWC)


class PredictsAtRandom(ReferenceTrainer):
    """Forgets to switch its dropout off."""

    _calls = 0

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Blur the probabilities a little more at every call."""
        self._calls += 1
        probabilities_BHWK = super().predict(images_BHWC) + np.float32(0.01 * self._calls)
        probabilities_BHWK /= probabilities_BHWK.sum(axis=-1, keepdims=True)
        return probabilities_BHWK


class NeverLearns(ReferenceTrainer):
    """Loses its gradient on the way."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Report a loss, change nothing."""
        return super().train_step(batch, 0.0 * learning_rate)


class FoldsIgnoreIntoTheFirstClass(ReferenceTrainer):
    """Reads 255 as class 0."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Teach class 0 where nothing should be taught."""
        ignored_BHW = batch.labels_BHW == self._ignore
        labels_BHW = np.where(ignored_BHW, 0, batch.labels_BHW)
        return super().train_step(replace(batch, labels_BHW=labels_BHW), learning_rate)


class ClipsIgnoreToTheLastClass(ReferenceTrainer):
    """Reads 255 as class K−1."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Teach the last class where nothing should be taught."""
        labels_BHW = np.minimum(batch.labels_BHW, len(self._weights["bias"]) - 1)
        return super().train_step(replace(batch, labels_BHW=labels_BHW), learning_rate)


class DividesByTheValidPixels(ReferenceTrainer):
    """Takes a mean over no pixels."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Return NaN for a batch without valid pixels."""
        result = super().train_step(batch, learning_rate)
        return Step(math.nan) if (batch.labels_BHW == self._ignore).all() else result


class DropsTheLastBatch(ReferenceTrainer):
    """Leaves out a batch that is not full."""

    _largest = 0

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Learn from batches that are as large as any before."""
        self._largest = max(self._largest, len(batch))
        return super().train_step(batch, learning_rate if len(batch) == self._largest else 0.0)


class SeesOneByte(ReferenceTrainer):
    """Takes every image for uint8."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Predict from the low byte of 16-bit pixels."""
        whole = images_BHWC.dtype.kind == "u"
        return super().predict(images_BHWC.astype(np.uint8) if whole else images_BHWC)


class AlwaysAnswersInBytes(ReferenceTrainer):
    """Has no room for more than 255 classes."""

    def predict_labels(self, images_BHWC: Images) -> Labels:
        """Return uint8 always."""
        return super().predict_labels(images_BHWC).astype(np.uint8)


class CutsToMultiplesOfEight(ReferenceTrainer):
    """Gives maps of the size its strides like."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Leave out the last rows and columns."""
        height, width = (size // 8 * 8 for size in images_BHWC.shape[1:3])
        return super().predict(images_BHWC[:, :height, :width])


class KeepsAWeightToItself(ReferenceTrainer):
    """Has weights that its state does not hold under ``weights/``."""

    def load_state(self, state: StoredState) -> None:
        """Lose the bias."""
        super().load_state(state)
        self._weights["bias"] = np.zeros_like(self._weights["bias"])


class ForgetsItsMomentum(ReferenceTrainer):
    """Resumes with an empty optimiser."""

    def load_state(self, state: StoredState) -> None:
        """Take over the weights alone."""
        super().load_state({n: a for n, a in state.items() if n.startswith("weights/")})


class LendsItsArrays(ReferenceTrainer):
    """Gives views of weights that it goes on to change."""

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Return the arrays themselves."""
        own = {f"weights/{name}": array for name, array in self._weights.items()}
        return {**super().state(), **own}

    def _update(self, gradients: dict[str, NDArray[np.float32]], learning_rate: float) -> None:
        lent = dict(self._weights)
        super()._update(gradients, learning_rate)
        for name, array in lent.items():
            array[...] = self._weights[name]
            self._weights[name] = array


class TakesANanStep(ReferenceTrainer):
    """Updates first and looks at the loss later."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Let NaN into the weights."""
        result = super().train_step(batch, learning_rate)
        if not math.isfinite(result.loss):
            self._weights["bias"] = self._weights["bias"] + np.float32(result.loss)
        return result


class TakesNanForAColour(ReferenceTrainer):
    """Lets missing pixels spread through its receptive field."""

    def _normalised(self, images_BHWC: Images) -> NDArray[np.float32]:
        return (images_BHWC.astype(np.float32) - self._mean_C) / self._std_C


class LoadsWhatFits(ReferenceTrainer):
    """Skips arrays that differ, and says nothing."""

    def load_state(self, state: StoredState) -> None:
        """Fill up with its own weights."""
        own = self.state()
        fitting = {n: state[n] for n in own if n in state and state[n].shape == own[n].shape}
        super().load_state({**own, **fitting})


class HasOneResultForAll(ReferenceTrainer):
    """Keeps its last loss in one place, which every result shows."""

    _last: Step | None = None

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Overwrite the result that was given before."""
        result = super().train_step(batch, learning_rate)
        if self._last is None:
            self._last = result
        object.__setattr__(self._last, "loss", result.loss)
        return self._last


class CallsItsHeadADecoder(ReferenceTrainer):
    """Does not know which weights another list of classes would change."""

    @property
    def parts(self) -> dict[str, Part]:
        """Name no head."""
        return dict.fromkeys(super().parts, "decoder")


class TrainsItsEncoder(ReferenceTrainer):
    """Freezes nothing."""

    @property
    def parts(self) -> dict[str, Part]:
        """Call a weight that is trained a part of the encoder."""
        return {**super().parts, "weights/bias": "encoder"}


class ScoresTheLastWeights(ReferenceTrainer):
    """Stores the average and predicts with something else."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Predict with the weights of the last step."""
        average, self._average = self._average, None
        probabilities_BHWK = super().predict(images_BHWC)
        self._average = average
        return probabilities_BHWK


class TakesTheVarianceOfOneValue(ReferenceTrainer):
    """Keeps a running variance over what pooling leaves of the images, one image or several."""

    _variance_C: NDArray[Any] | None = None

    def state(self) -> dict[str, NDArray[np.generic]]:
        """Add the running variance, which begins as 1."""
        variance_C = np.ones(3) if self._variance_C is None else self._variance_C
        return {**super().state(), "weights/variance": variance_C.copy()}

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Move the running variance."""
        pooled_BC = batch.images_BHWC.mean(axis=(1, 2)) / 255
        self._variance_C = 0.9 * np.ones(3) + 0.1 * pooled_BC.var(axis=0)
        return super().train_step(batch, learning_rate)


class DropsInAFrozenEncoder(ReferenceTrainer):
    """Leaves features out at random, frozen or not."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Set half of the pixels to 0."""
        kept_BHW1 = np.random.default_rng().random((*batch.labels_BHW.shape, 1)) < 0.5
        images_BHWC = np.where(kept_BHW1, batch.images_BHWC, 0).astype(batch.images_BHWC.dtype)
        return super().train_step(replace(batch, images_BHWC=images_BHWC), learning_rate)


class RoundsItsLogits(ReferenceTrainer):
    """Computes its last layer in the type that the recipe gives the others."""

    def _logits(
        self, features: NDArray[np.float32], weights: Mapping[str, NDArray[np.float32]]
    ) -> NDArray[np.float32]:
        logits = super()._logits(features, weights)
        return _bfloat16(logits) if self._training.precision == "bfloat16" else logits


class RoundsItsLoss(ReferenceTrainer):
    """Sums the loss up in the type that the recipe gives the network."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Return a loss of 8 bits."""
        loss = super().train_step(batch, learning_rate).loss
        return Step(float(_bfloat16(np.array(loss, np.float32))))


def _bfloat16(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cut float32 down to the bits of bfloat16."""
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


@dataclass(frozen=True)
class Building(ReferenceBackend):
    """A backend that builds `trainer`."""

    trainer: type[ReferenceTrainer]

    def build(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> ReferenceTrainer:
        """Make a sabotaged trainer."""
        return self.trainer(self.options(model), training, labels, bands, seed)


class IgnoresTheSeed(ReferenceBackend):
    """Starts always from the same weights."""

    def build(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> ReferenceTrainer:
        """Use seed 0."""
        return super().build(model, training, labels, bands, 0 * seed)


class DrawsAnew(ReferenceBackend):
    """Starts always from other weights."""

    def build(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        labels: LabelMap,
        bands: Bands,
        seed: int,
    ) -> ReferenceTrainer:
        """Add chance to the seed."""
        chance = int(np.random.default_rng().integers(1, 2**31))
        return super().build(model, training, labels, bands, seed + chance)


class ImportsItsFrameworkAtOnce(ReferenceBackend):
    """Loads a framework to list its models; a stand-in, since core is tested without any."""

    def models(self) -> tuple[str, ...]:
        """List the models, with a framework in ``sys.modules``."""
        sys.modules["torch"] = types.ModuleType("torch")
        return super().models()


class BuildsADefaultModel(ReferenceBackend):
    """Takes a mistyped model for its favourite one."""

    def options(self, model: ModelConfig) -> Options:
        """Overlook the name."""
        return super().options(ModelConfig(name="pixel_softmax", options=model.options))


class SwallowsUnknownOptions(ReferenceBackend):
    """Takes any option, and uses those it knows."""

    def options(self, model: ModelConfig) -> Options:
        """Overlook options that do not exist."""
        known = {n: value for n, value in model.options.items() if n in Options.model_fields}
        return super().options(ModelConfig(name=model.name, options=known))


class TakesMissingValuesForZero(ReferenceTrainer):
    """Replaces NaN before it normalises, by what is far from the mean."""

    def predict(self, images_BHWC: Images) -> Probabilities:
        """Fill with the raw number 0."""
        return super().predict(np.nan_to_num(images_BHWC))


class LosesByIgnoredPixels(ReferenceTrainer):
    """Counts IGNORE as class 0 in the loss that comes with a score."""

    def score(
        self, images_BHWC: Images, labels_BHW: NDArray[np.generic]
    ) -> tuple[Labels, NDArray[np.float64]]:
        """Leave nothing out."""
        return super().score(images_BHWC, np.where(labels_BHW == self._ignore, 0, labels_BHW))


class MeasuresWhatItHasClipped(ReferenceTrainer):
    """Tells the norm of the gradient after it was clipped."""

    def train_step(self, batch: Batch, learning_rate: float) -> Step:
        """Tell no more than the largest norm."""
        step = super().train_step(batch, learning_rate)
        largest = self._training.clip_norm or math.inf
        return replace(step, gradient_norm=min(step.gradient_norm, largest))


FAULTY_BACKENDS: Mapping[str, tuple[ReferenceBackend, ...]] = {
    "signatures_equal_the_protocols": (Building(WantsMoreArguments),),
    "predictions_are_probabilities": (Building(ReturnsLogits), Building(CountsClassesFromOne)),
    "inputs_are_not_modified": (Building(NormalisesInPlace), Building(IgnoresInTheCallersLabels)),
    "batches_do_not_interact": (Building(StaysInTrainingMode),),
    "predicting_changes_nothing": (Building(TouchesItsStateInPredict), Building(PredictsAtRandom)),
    "learns_two_colours": (Building(NeverLearns),),
    "ignored_pixels_teach_nothing": (
        Building(FoldsIgnoreIntoTheFirstClass),
        Building(ClipsIgnoreToTheLastClass),
    ),
    "all_ignored_batch_is_harmless": (Building(DividesByTheValidPixels),),
    "short_batch_is_used": (Building(DropsTheLastBatch),),
    "bands_and_classes_are_honoured": (Building(SeesOneByte), Building(AlwaysAnswersInBytes)),
    "odd_sizes": (Building(CutsToMultiplesOfEight),),
    "weights_alone_predict_the_same": (Building(KeepsAWeightToItself),),
    "resume_is_exact": (Building(ForgetsItsMomentum), Building(LendsItsArrays)),
    "seed_decides": (IgnoresTheSeed(), DrawsAnew()),
    "listing_imports_no_framework": (ImportsItsFrameworkAtOnce(),),
    "unknown_names_list_the_choices": (BuildsADefaultModel(), SwallowsUnknownOptions()),
    "non_finite_batch_is_left_out": (Building(TakesANanStep),),
    "nan_pixels_are_no_data": (Building(TakesNanForAColour),),
    "missing_values_are_the_mean_of_their_band": (Building(TakesMissingValuesForZero),),
    "foreign_weights_are_refused": (Building(LoadsWhatFits),),
    "losses_may_be_read_late": (Building(HasOneResultForAll),),
    "parts_are_named": (Building(CallsItsHeadADecoder),),
    "frozen_encoder_stays": (Building(TrainsItsEncoder),),
    "average_is_kept_and_used": (Building(ScoresTheLastWeights),),
    "one_value_leaves_statistics": (Building(TakesTheVarianceOfOneValue),),
    "frozen_encoder_drops_nothing": (Building(DropsInAFrozenEncoder),),
    "bfloat16_leaves_logits_in_float32": (Building(RoundsItsLogits), Building(RoundsItsLoss)),
    "scores_come_with_their_loss": (Building(LosesByIgnoredPixels),),
    "gradient_norm_is_told": (Building(MeasuresWhatItHasClipped),),
}
"""By the name of the check that must catch them."""
