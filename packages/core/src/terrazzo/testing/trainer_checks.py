"""What every model of every backend must do, as plain functions that raise AssertionError.

`CHECKS` names them; a package runs ``CHECKS × backend.models()``, see its
``tests/test_contract.py``. `faulty_backends.py` holds, for each check, a backend that breaks just
that promise and must be caught. A check has to be true of every honest model, whatever its
receptive field, its dropout and its normalisation: try a new one on real models before adding it.
"""

from __future__ import annotations

import importlib
import inspect
import math
import multiprocessing
import re
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from terrazzo.base.errors import CheckpointError, ConfigError, InputSizeError, TerrazzoError
from terrazzo.base.recipe import LossConfig, ModelConfig, OptimizerConfig, TrainingConfig
from terrazzo.data.labels import LabelClass, LabelMap
from terrazzo.data.sample import Bands, Batch
from terrazzo.models import backends
from terrazzo.models.contract import Backend, State, Trainer

ADAMW = TrainingConfig(steps=1, loss=LossConfig(cross_entropy=1, dice=0.5), precision="float32")
PLAIN_SGD = TrainingConfig(
    steps=1, optimizer=OptimizerConfig(name="sgd", momentum=0), precision="float32"
)
AVERAGED = TrainingConfig(steps=1, ema=0.9, precision="float32")
FROZEN_ENCODER = TrainingConfig(steps=1, train_part="decoder", precision="float32")
LEARNING_RATE = 3e-3
BATCH_SIZE = 4
FRAMEWORKS = {"torch", "torchvision", "keras", "tensorflow", "jax", "timm", "transformers"}


@dataclass(frozen=True, slots=True)
class Factory:
    """Makes trainers of one model, and images for them.

    Attributes:
        backend: of the model.
        model: its name and the options of its small form.
        size: rows and columns of the images; even.
        most_steps: within which the model must have learned two colours.
    """

    backend: Backend
    model: ModelConfig
    size: int = 32
    most_steps: int = 200

    @classmethod
    def small(cls, backend: Backend, name: str, *, size: int = 32) -> Factory:
        """Return the factory of a model in the form its file calls `SMALL`."""
        package = backends.PACKAGES[backend.name]
        options = importlib.import_module(f"{package}.models.{name}").SMALL
        return cls(backend, ModelConfig(name=name, options=options.model_dump()), size)

    def build(self, task: Task, *, training: TrainingConfig = ADAMW, seed: int = 0) -> Trainer:
        """Make a trainer with new weights."""
        return self.backend.build(self.model, training, task.labels, task.bands, seed)


@dataclass(frozen=True, slots=True)
class Task:
    """A task anyone can solve: each class has a colour of its own.

    Attributes:
        num_classes: K.
        num_bands: C.
        dtype: of the pixels.
    """

    num_classes: int = 2
    num_bands: int = 3
    dtype: str = "uint8"

    @property
    def brightest(self) -> float:
        """The largest pixel value."""
        return 1.0 if self.dtype == "float32" else float(np.iinfo(self.dtype).max)

    @property
    def labels(self) -> LabelMap:
        """K classes without further meaning."""
        classes = tuple(LabelClass(f"class {k}", "#000000", (k,)) for k in range(self.num_classes))
        return LabelMap("check", classes)

    @property
    def bands(self) -> Bands:
        """C bands whose mean is half of the range."""
        num_bands = self.num_bands
        return Bands(
            names=tuple(f"band {c}" for c in range(num_bands)),
            dtype=self.dtype,
            mean=(self.brightest / 2,) * num_bands,
            std=(self.brightest / 4,) * num_bands,
        )

    def batch(self, height: int, width: int, *, count: int = BATCH_SIZE, seed: int = 0) -> Batch:
        """Return images of four quarters, each of one class at random, with a little noise."""
        rng = np.random.default_rng(seed)
        quarters_B22 = rng.integers(self.num_classes, size=(count, 2, 2))
        rows_H = np.arange(height) * 2 // height
        columns_W = np.arange(width) * 2 // width
        labels_BHW = quarters_B22[:, rows_H[:, None], columns_W]
        colours_KC = self._colours()
        noise_BHWC = rng.normal(0, 0.02, (*labels_BHW.shape, self.num_bands))
        images_BHWC = np.clip(colours_KC[labels_BHW] + noise_BHWC, 0, 1) * self.brightest
        names = tuple(f"image {number}" for number in range(count))
        return Batch(
            images_BHWC=images_BHWC.astype(self.dtype),
            labels_BHW=labels_BHW.astype(self.labels.dtype),
            names=names,
            files=names,
        )

    def _colours(self) -> NDArray[np.float64]:
        """Return K×C in 0…1; bands take turns in telling the first class from the second."""
        colours_KC = np.random.default_rng(0).uniform(0.1, 0.9, (self.num_classes, self.num_bands))
        colours_KC[0] = np.resize((0.75, 0.25), self.num_bands)
        colours_KC[1] = np.resize((0.25, 0.75), self.num_bands)
        return colours_KC


TWO_COLOURS = Task()


def check_signatures_equal_the_protocols(factory: Factory) -> None:
    """Every member of Backend and Trainer exists, and methods take the same arguments."""
    trainer = factory.build(TWO_COLOURS)
    for protocol, thing in ((Backend, factory.backend), (Trainer, trainer)):
        for name, member in vars(protocol).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                assert _arguments(getattr(thing, name)) == _arguments(member)[1:], name
    assert factory.model.name in factory.backend.models()
    assert all(isinstance(version, str) for version in factory.backend.versions().values())
    assert isinstance(trainer.device, str)
    assert isinstance(trainer.asynchronous, bool)
    assert trainer.num_parameters > 0
    assert all(isinstance(remark, str) for remark in trainer.remarks)
    assert 0 <= trainer.world.rank < trainer.world.size
    counts = np.array([1, 2**53 + 1])
    assert trainer.world.size > 1 or np.array_equal(trainer.world.sum(counts), counts)


def check_predictions_are_probabilities(factory: Factory) -> None:
    """`predict` gives float32 B×H×W×K that sums to 1; `predict_labels` the most probable class."""
    task = Task(num_classes=3)
    trainer = factory.build(task)
    _train(factory, trainer, task)
    images_BHWC = _batch(factory, task, seed=9).images_BHWC
    probabilities_BHWK = trainer.predict(images_BHWC)
    assert isinstance(probabilities_BHWK, np.ndarray)
    assert probabilities_BHWK.dtype == np.float32
    assert probabilities_BHWK.shape == (*images_BHWC.shape[:3], 3)
    assert np.isfinite(probabilities_BHWK).all()
    assert probabilities_BHWK.min() >= 0
    np.testing.assert_allclose(probabilities_BHWK.sum(axis=-1), 1, atol=1e-5)
    labels_BHW = trainer.predict_labels(images_BHWC)
    assert labels_BHW.dtype in (np.uint8, np.uint16)
    assert labels_BHW.shape == images_BHWC.shape[:3]
    assert labels_BHW.max() < 3
    chosen_BHW = np.take_along_axis(probabilities_BHWK, labels_BHW[..., None].astype(int), -1)
    best_BHW = probabilities_BHWK.max(axis=-1)
    # Where two classes are all but equal, rounding may order logits and probabilities differently.
    np.testing.assert_allclose(chosen_BHW[..., 0], best_BHW, atol=1e-5)


def check_inputs_are_not_modified(factory: Factory) -> None:
    """Images and labels are the same after training and predicting as before."""
    task = Task(dtype="float32")  # the type a backend is most likely to work on in place
    trainer = factory.build(task)
    batch = _batch(factory, task)
    batch.labels_BHW[0] = task.labels.ignore_index
    images_BHWC, labels_BHW = batch.images_BHWC.copy(), batch.labels_BHW.copy()
    _step(trainer, batch)
    trainer.predict(batch.images_BHWC)
    trainer.predict_labels(batch.images_BHWC)
    np.testing.assert_array_equal(batch.images_BHWC, images_BHWC)
    np.testing.assert_array_equal(batch.labels_BHW, labels_BHW)


def check_batches_do_not_interact(factory: Factory) -> None:
    """After training, an image alone gives what it gives among others."""
    trainer = factory.build(TWO_COLOURS)
    _train(factory, trainer, TWO_COLOURS, steps=5)
    images_BHWC = _batch(factory, TWO_COLOURS, seed=9).images_BHWC
    # One image unlike the rest, so that statistics of the batch differ from those of an image.
    images_BHWC[0] = 255
    together_BHWK = trainer.predict(images_BHWC)
    assert np.ptp(together_BHWK) > 1e-3, "this model predicts the same everywhere: nothing to see"
    for number in range(len(images_BHWC)):
        alone_BHWK = trainer.predict(images_BHWC[number : number + 1])
        np.testing.assert_allclose(alone_BHWK[0], together_BHWK[number], atol=1e-4)


def check_predicting_changes_nothing(factory: Factory) -> None:
    """Two predictions are equal, and training goes on as if there had been none."""
    watched, unwatched = factory.build(TWO_COLOURS), factory.build(TWO_COLOURS)
    images_BHWC = _batch(factory, TWO_COLOURS, seed=9).images_BHWC
    for seed in range(2):
        _step(watched, _batch(factory, TWO_COLOURS, seed=seed))
        _step(unwatched, _batch(factory, TWO_COLOURS, seed=seed))
        np.testing.assert_array_equal(watched.predict(images_BHWC), watched.predict(images_BHWC))
        watched.predict_labels(images_BHWC)
    _assert_equal(watched.state(), unwatched.state())


def check_learns_two_colours(factory: Factory) -> None:
    """More than 99 % of the pixels of new images are right after some steps."""
    _assert_learns(factory, ignored_share=0)


def check_ignored_pixels_teach_nothing(factory: Factory) -> None:
    """Four fifths of all pixels are ignored, and still both colours are learned.

    Whichever class the ignored pixels were folded into, the other one would be outvoted in its own
    colour.
    """
    _assert_learns(factory, ignored_share=0.8)


def check_all_ignored_batch_is_harmless(factory: Factory) -> None:
    """A batch without any valid pixel has loss 0 and leaves finite weights that still learn."""
    trainer = factory.build(TWO_COLOURS)
    batch = _batch(factory, TWO_COLOURS)
    nothing_BHW = np.full_like(batch.labels_BHW, TWO_COLOURS.labels.ignore_index)
    loss = _step(trainer, _replace(batch, labels_BHW=nothing_BHW))
    assert loss == 0
    _assert_finite(trainer.state())
    assert _step(trainer, batch) > 0
    _assert_finite(trainer.state())


def check_short_batch_is_used(factory: Factory) -> None:
    """A batch of one image after a full one changes the weights, each image in its own way."""
    after_full, after_short, after_other = (
        factory.build(TWO_COLOURS, training=PLAIN_SGD) for _ in range(3)
    )
    for trainer in (after_full, after_short, after_other):
        _step(trainer, _batch(factory, TWO_COLOURS))
    image = TWO_COLOURS.batch(factory.size, factory.size, count=1, seed=1)
    swapped_BHW = (1 - image.labels_BHW).astype(image.labels_BHW.dtype)
    assert _step(after_short, image) > 0
    assert _step(after_other, _replace(image, labels_BHW=swapped_BHW)) > 0
    states = [_weights(trainer.state()) for trainer in (after_full, after_short, after_other)]
    assert _differ(states[0], states[1]), "the short batch taught nothing"
    assert _differ(states[1], states[2]), "the labels of the short batch made no difference"


def check_bands_and_classes_are_honoured(factory: Factory) -> None:
    """1, 3 and 5 bands, 2, 7 and 300 classes, and all three types of pixels work."""
    for task in (Task(2, 1, "uint8"), Task(7, 3, "uint16"), Task(300, 5, "float32")):
        trainer = factory.build(task)
        batch = _batch(factory, task)
        assert math.isfinite(_step(trainer, batch)), task
        probabilities_BHWK = trainer.predict(batch.images_BHWC)
        assert probabilities_BHWK.shape == (*batch.labels_BHW.shape, task.num_classes), task
        assert trainer.predict_labels(batch.images_BHWC).dtype == task.labels.dtype, task
        if task.dtype == "uint16":
            low_bytes_BHWC = batch.images_BHWC % 256
            assert not np.array_equal(trainer.predict(low_bytes_BHWC), probabilities_BHWK), (
                "only the low byte of a uint16 pixel is seen"
            )


def check_odd_sizes(factory: Factory) -> None:
    """Odd images are predicted at their size, and trained on unless an error names a good size.

    The `allowed` of an InputSizeError must hold such a size as ``rows×columns``.
    """
    trainer = factory.build(TWO_COLOURS)
    odd = TWO_COLOURS.batch(factory.size + 5, factory.size - 3, count=1)
    probabilities_BHWK = trainer.predict(odd.images_BHWC)
    assert probabilities_BHWK.shape == (*odd.labels_BHW.shape, 2)
    assert trainer.predict_labels(odd.images_BHWC).shape == odd.labels_BHW.shape
    try:
        loss = _step(trainer, odd)
    except InputSizeError as error:
        loss = _step(trainer, TWO_COLOURS.batch(*_good_size(error), count=1))
    assert math.isfinite(loss)


def check_weights_alone_predict_the_same(factory: Factory) -> None:
    """A new trainer that is given only the weights predicts the same, bit for bit."""
    trained, other = factory.build(TWO_COLOURS), factory.build(TWO_COLOURS, seed=1)
    _train(factory, trained, TWO_COLOURS)
    other.load_state(_weights(trained.state()))
    images_BHWC = _batch(factory, TWO_COLOURS, seed=9).images_BHWC
    np.testing.assert_array_equal(other.predict(images_BHWC), trained.predict(images_BHWC))


def check_resume_is_exact(factory: Factory) -> None:
    """Training on from a stored state gives the very weights of training without a stop."""
    straight, resumed = factory.build(TWO_COLOURS), factory.build(TWO_COLOURS, seed=1)
    batches = [_batch(factory, TWO_COLOURS, seed=seed) for seed in range(2)]
    _step(straight, batches[0])
    stored = straight.state()
    copy = {name: array.copy() for name, array in stored.items()}
    _step(straight, batches[1], learning_rate=LEARNING_RATE / 2)
    resumed.load_state(stored)
    _step(resumed, batches[1], learning_rate=LEARNING_RATE / 2)
    _assert_equal(resumed.state(), straight.state())
    _assert_equal(stored, copy)


def check_seed_decides(factory: Factory) -> None:
    """One seed gives one result; another seed gives another."""
    first, again, other = (factory.build(TWO_COLOURS, seed=seed) for seed in (3, 3, 4))
    assert _differ(_weights(first.state()), _weights(other.state()))
    for trainer in (first, again):
        _train(factory, trainer, TWO_COLOURS, steps=2)
    _assert_equal(first.state(), again.state())


def check_listing_imports_no_framework(factory: Factory) -> None:
    """Importing the backend and listing its models loads no framework, in a fresh process."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        loaded = process.submit(_frameworks_after_listing, factory.backend).result()
    assert not loaded


def check_unknown_names_list_the_choices(factory: Factory) -> None:
    """An unknown model or option is a ConfigError that lists the known ones."""
    backend, bands, labels = factory.backend, TWO_COLOURS.bands, TWO_COLOURS.labels
    options = {**factory.model.options, "no_such_option": 1}
    for model, names in (
        (ModelConfig(name="no such model"), ("no such model", *backend.models())),
        (ModelConfig(name=factory.model.name, options=options), tuple(options)),
    ):
        error = _error(ConfigError, backend.build, model, ADAMW, labels, bands, 0)
        assert all(name in str(error) for name in names), error


def check_non_finite_batch_is_left_out(factory: Factory) -> None:
    """A batch of infinite pixels has a non-finite loss, leaves the weights, and does no later harm.

    Infinity rather than NaN, which means "no data".
    """
    task = Task(dtype="float32")
    trainer = factory.build(task)
    batch = _batch(factory, task)
    _step(trainer, batch)
    before = _weights(trainer.state())
    infinite_BHWC = np.full_like(batch.images_BHWC, np.inf)
    assert not math.isfinite(_step(trainer, _replace(batch, images_BHWC=infinite_BHWC)))
    _assert_equal(_weights(trainer.state()), before)
    assert math.isfinite(_step(trainer, batch))
    _assert_finite(trainer.state())


def check_nan_pixels_are_no_data(factory: Factory) -> None:
    """NaN under IGNORE, as rasters have it where there is no data, spoils neither step nor map."""
    task = Task(dtype="float32")
    trainer = factory.build(task)
    batch = _batch(factory, task)
    batch.images_BHWC[:, :5, :5] = np.nan
    batch.labels_BHW[:, :5, :5] = task.labels.ignore_index
    assert math.isfinite(_step(trainer, batch))
    _assert_finite(trainer.state())
    assert np.isfinite(trainer.predict(batch.images_BHWC)).all()


def check_missing_values_are_the_mean_of_their_band(factory: Factory) -> None:
    """An image with missing values comes as float32 with NaN, whatever type the model knows."""
    task = Task()
    trainer = factory.build(task)
    missing_BHWC = _batch(factory, task).images_BHWC.astype(np.float32)
    missing_BHWC[:, 3:9, 2:7] = np.nan
    mean_BHWC = np.where(
        np.isnan(missing_BHWC), np.array(task.bands.mean, np.float32), missing_BHWC
    )
    np.testing.assert_array_equal(trainer.predict(missing_BHWC), trainer.predict(mean_BHWC))
    assert trainer.bands == task.bands


def check_foreign_weights_are_refused(factory: Factory) -> None:
    """Weights of other shapes or names raise a CheckpointError that names one; nothing changes."""
    trainer = factory.build(TWO_COLOURS)
    before = trainer.state()
    foreign = _weights(factory.build(Task(num_classes=5)).state())
    differing = [name for name in foreign if foreign[name].shape != before[name].shape]
    lacking = _weights(before)
    lost = next(iter(lacking))
    del lacking[lost]
    added = {**_weights(before), "weights/no_such_array": np.zeros(1)}
    for state, names in ((foreign, differing), (lacking, [lost]), (added, ["no_such_array"])):
        error = _error(CheckpointError, trainer.load_state, state)
        assert any(name in str(error) for name in names), error
        _assert_equal(trainer.state(), before)


def check_losses_may_be_read_late(factory: Factory) -> None:
    """A loss that is read after later steps is the one that is read at once."""
    prompt, late = factory.build(TWO_COLOURS), factory.build(TWO_COLOURS)
    batches = [_batch(factory, TWO_COLOURS, seed=seed) for seed in range(2)]
    read_at_once = [_step(prompt, batch) for batch in batches]
    results = [late.train_step(batch, LEARNING_RATE) for batch in batches]
    assert [result.loss for result in results] == read_at_once
    assert all(isinstance(loss, float) for loss in read_at_once)


def check_parts_are_named(factory: Factory) -> None:
    """Each weight belongs to a part; the head is what depends on the number of classes."""
    two, five = (factory.build(Task(num_classes=num)) for num in (2, 5))
    weights, others = _weights(two.state()), _weights(five.state())
    assert set(two.parts) == set(weights)
    assert set(two.parts.values()) <= {"encoder", "decoder", "head"}
    head = {name for name, part in two.parts.items() if part == "head"}
    assert head == {name for name in weights if weights[name].shape != others[name].shape}


def check_frozen_encoder_stays(factory: Factory) -> None:
    """Training the decoder leaves the encoder, its batch statistics included, to the bit."""
    trainer = factory.build(TWO_COLOURS, training=FROZEN_ENCODER)
    before = _weights(trainer.state())
    _train(factory, trainer, TWO_COLOURS)
    after = _weights(trainer.state())
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert not {name for name in moved if trainer.parts[name] == "encoder"}
    assert {name for name in moved if trainer.parts[name] == "head"}


def check_average_is_kept_and_used(factory: Factory) -> None:
    """With `ema` the averaged weights are scored and stored, and a resume is exact."""
    trained, plain, resumed, other = (
        factory.build(TWO_COLOURS, training=training)
        for training in (AVERAGED, AVERAGED.model_copy(update={"ema": None}), AVERAGED, ADAMW)
    )
    for trainer in (trained, plain):
        _train(factory, trainer, TWO_COLOURS)
    assert _differ(_weights(trained.state()), _weights(plain.state()))
    other.load_state(_weights(trained.state()))
    images_BHWC = _batch(factory, TWO_COLOURS, seed=9).images_BHWC
    np.testing.assert_array_equal(other.predict(images_BHWC), trained.predict(images_BHWC))
    resumed.load_state(trained.state())
    for trainer in (trained, resumed):
        _step(trainer, _batch(factory, TWO_COLOURS, seed=5))
    _assert_equal(resumed.state(), trained.state())


def check_one_value_leaves_statistics(factory: Factory) -> None:
    """Where one image leaves one value a channel, the running statistics stay as they are.

    One value has no variance. Taking it for 0 makes a running variance that began as one number a
    channel another number, the same for all channels; a true variance differs between them.
    """
    trainer = factory.build(TWO_COLOURS, training=PLAIN_SGD)
    before = _weights(trainer.state())
    # So small that the coarsest map is one pixel, in networks that halve twice or more.
    images_BHWC = np.random.default_rng(0).integers(256, size=(1, 4, 4, 3)).astype(np.uint8)
    image = _replace(TWO_COLOURS.batch(4, 4, count=1), images_BHWC=images_BHWC)
    assert math.isfinite(_step(trainer, image, learning_rate=0))
    for name, array in _weights(trainer.state()).items():
        if array.size > 1 and np.ptp(before[name]) == 0 == np.ptp(array):
            np.testing.assert_array_equal(array, before[name], err_msg=name)


def check_frozen_encoder_drops_nothing(factory: Factory) -> None:
    """A frozen encoder is in inference mode: drop path in it makes no difference to the loss."""
    options = factory.model.options
    losses = []
    weights: State = {}
    for drop_path in (0, 0.9):
        still = {"drop_path": drop_path, "dropout": 0}
        given = {name: still.get(name, value) for name, value in options.items()}
        model = ModelConfig(name=factory.model.name, options=given)
        trainer = Factory(factory.backend, model).build(TWO_COLOURS, training=FROZEN_ENCODER)
        weights = weights or _weights(trainer.state())
        trainer.load_state(weights)
        batch = _batch(factory, TWO_COLOURS)
        losses.append([_step(trainer, batch, learning_rate=0) for _ in range(3)])
    assert losses[0] == losses[1]


def check_bfloat16_leaves_logits_in_float32(factory: Factory) -> None:
    """Arithmetic in bfloat16 rounds neither logits nor the loss to bfloat16.

    Of the probabilities, at least half as many are different as with float32. All classes but the
    first get the logit 0, so that rounding is not hidden in the difference of two logits.
    """
    task = Task(num_classes=7, dtype="float32")  # 7: the size of one axis in each array of a head
    counts, losses = [], []
    for precision in ("float32", "bfloat16"):
        training = PLAIN_SGD.model_copy(update={"precision": precision})
        trainer = factory.build(task, training=training)
        losses = [_step(trainer, _batch(factory, task, seed=seed)) for seed in range(2)]
        weights = _weights(trainer.state())
        for array in (weights[name] for name, part in trainer.parts.items() if part == "head"):
            np.moveaxis(array, array.shape.index(task.num_classes), 0)[1:] = 0
        trainer.load_state(weights)
        images_BHWC = _batch(factory, task, seed=9).images_BHWC
        counts.append(len(np.unique(trainer.predict(images_BHWC)[..., 0])))
    assert counts[1] > counts[0] / 2, f"{counts[1]} different probabilities, not {counts[0]}"
    bits = np.array(losses, np.float32).view(np.uint32)
    assert (bits & 0xFFFF).any(), "each loss is a number of bfloat16"


def check_scores_come_with_their_loss(factory: Factory) -> None:
    """`score` gives the labels of `predict_labels`, and the cross-entropy of what counts."""
    task = Task(num_classes=3)
    trainer = factory.build(task)
    _train(factory, trainer, task)
    batch = _batch(factory, task, seed=9)
    truth_BHW = batch.labels_BHW.copy()
    truth_BHW[0, ::2] = task.labels.ignore_index
    truth_BHW[1] = task.labels.ignore_index
    labels_BHW, losses_B = trainer.score(batch.images_BHWC, truth_BHW)
    wanted_BHW = trainer.predict_labels(batch.images_BHWC)
    assert labels_BHW.dtype == wanted_BHW.dtype
    np.testing.assert_array_equal(labels_BHW, wanted_BHW)
    valid_BHW = truth_BHW != task.labels.ignore_index
    indices_BHW1 = np.where(valid_BHW, truth_BHW, 0).astype(int)[..., None]
    probabilities_BHWK = trainer.predict(batch.images_BHWC).astype(np.float64)
    right_BHW = np.take_along_axis(probabilities_BHWK, indices_BHW1, -1)[..., 0]
    wanted_B = -np.where(valid_BHW, np.log(np.maximum(right_BHW, 1e-30)), 0).sum(axis=(1, 2))
    assert losses_B.dtype == np.float64
    np.testing.assert_allclose(losses_B, wanted_B, rtol=1e-3, atol=1e-3)


def check_gradient_norm_is_told(factory: Factory) -> None:
    """The norm of the gradient is told where it is asked for, of all weights and before clipping.

    A step of plain gradient descent is the gradient times the learning rate.
    """
    batch, rate, norms = _batch(factory, TWO_COLOURS), 0.5, []
    for clip in (None, 1e-3):
        trainer = factory.build(
            TWO_COLOURS, training=PLAIN_SGD.model_copy(update={"clip_norm": clip})
        )
        assert math.isnan(trainer.train_step(batch, 0.0).gradient_norm)
        before = _weights(trainer.state())
        trainer.measures_gradient = True
        result = trainer.train_step(batch, rate)
        after = _weights(trainer.state())
        norms.append(result.gradient_norm)
        if clip is not None:
            continue
        changes = {
            name: (before[name].astype(np.float64) - after[name].astype(np.float64)) / rate
            for name in after
        }
        heads = [changes[name] for name, part in trainer.parts.items() if part == "head"]
        of_head = math.sqrt(sum(float(np.square(change).sum()) for change in heads))
        of_all = math.sqrt(sum(float(np.square(change).sum()) for change in changes.values()))
        # All weights, in which statistics of batches may have moved as well.
        assert of_head * 0.99 <= norms[0] <= of_all * 1.01, f"{norms[0]}, not {of_all}"
    assert norms[0] > 0
    np.testing.assert_allclose(norms[1], norms[0], rtol=1e-3)


CHECKS: Mapping[str, Callable[[Factory], None]] = {
    check.__name__.removeprefix("check_"): check
    for check in (
        check_signatures_equal_the_protocols,
        check_predictions_are_probabilities,
        check_inputs_are_not_modified,
        check_batches_do_not_interact,
        check_predicting_changes_nothing,
        check_learns_two_colours,
        check_ignored_pixels_teach_nothing,
        check_all_ignored_batch_is_harmless,
        check_short_batch_is_used,
        check_bands_and_classes_are_honoured,
        check_odd_sizes,
        check_weights_alone_predict_the_same,
        check_resume_is_exact,
        check_seed_decides,
        check_listing_imports_no_framework,
        check_unknown_names_list_the_choices,
        check_non_finite_batch_is_left_out,
        check_nan_pixels_are_no_data,
        check_missing_values_are_the_mean_of_their_band,
        check_foreign_weights_are_refused,
        check_losses_may_be_read_late,
        check_parts_are_named,
        check_frozen_encoder_stays,
        check_average_is_kept_and_used,
        check_one_value_leaves_statistics,
        check_frozen_encoder_drops_nothing,
        check_bfloat16_leaves_logits_in_float32,
        check_scores_come_with_their_loss,
        check_gradient_norm_is_told,
    )
}


def _batch(factory: Factory, task: Task, *, seed: int = 0) -> Batch:
    return task.batch(factory.size, factory.size, seed=seed)


def _replace(
    batch: Batch,
    *,
    images_BHWC: NDArray[np.generic] | None = None,
    labels_BHW: NDArray[np.generic] | None = None,
) -> Batch:
    return Batch(
        images_BHWC=batch.images_BHWC if images_BHWC is None else images_BHWC,
        labels_BHW=batch.labels_BHW if labels_BHW is None else labels_BHW,
        names=batch.names,
        files=batch.files,
    )


def _step(trainer: Trainer, batch: Batch, *, learning_rate: float = LEARNING_RATE) -> float:
    return trainer.train_step(batch, learning_rate).loss


def _train(factory: Factory, trainer: Trainer, task: Task, *, steps: int = 3) -> None:
    for seed in range(steps):
        _step(trainer, _batch(factory, task, seed=seed))


def _assert_learns(factory: Factory, *, ignored_share: float) -> None:
    trainer = factory.build(TWO_COLOURS)
    unseen = _batch(factory, TWO_COLOURS, seed=1000)
    for step in range(1, factory.most_steps + 1):
        batch = _batch(factory, TWO_COLOURS, seed=step)
        hidden_BHW = np.random.default_rng(step).random(batch.labels_BHW.shape) < ignored_share
        batch.labels_BHW[hidden_BHW] = TWO_COLOURS.labels.ignore_index
        _step(trainer, batch)
        if step % 10 == 0:
            right, sure = _right_and_sure(trainer, unseen)
            # Sure as well as right: a model that is taught wrongly may still be right on its way.
            if right > 0.99 and sure > 0.9:
                return
    msg = f"after {step} steps {right:.1%} of the pixels are right, {sure:.1%} sure"
    raise AssertionError(msg)


def _right_and_sure(trainer: Trainer, batch: Batch) -> tuple[float, float]:
    """Return the share of pixels that are right, and the mean probability of the true class."""
    labels_BHW = trainer.predict_labels(batch.images_BHWC)
    truth_BHW1 = batch.labels_BHW[..., None].astype(np.int64)
    truth_probabilities = np.take_along_axis(trainer.predict(batch.images_BHWC), truth_BHW1, -1)
    return float((labels_BHW == batch.labels_BHW).mean()), float(truth_probabilities.mean())


def _error(
    kind: type[TerrazzoError], function: Callable[..., object], *arguments: object
) -> TerrazzoError:
    try:
        function(*arguments)
    except kind as error:
        return error
    msg = f"no {kind.__name__} was raised"
    raise AssertionError(msg)


def _good_size(error: InputSizeError) -> tuple[int, int]:
    named = re.search(r"(\d+)\s*×\s*(\d+)", str(error.allowed))
    assert named, f"no good size is named in: {error}"
    return int(named[1]), int(named[2])


def _arguments(function: Callable[..., object]) -> list[tuple[str, object, object]]:
    """Return name, kind and default of each argument."""
    parameters = inspect.signature(function).parameters.values()
    return [(p.name, p.kind, p.default) for p in parameters]


def _frameworks_after_listing(backend: Backend) -> set[str]:
    assert backend.models()
    return FRAMEWORKS & set(sys.modules)


def _weights(state: State) -> State:
    return {name: array for name, array in state.items() if name.startswith("weights/")}


def _differ(one: State, other: State) -> bool:
    return any(not np.array_equal(array, other[name]) for name, array in one.items())


def _assert_equal(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name], err_msg=name)


def _assert_finite(state: State) -> None:
    for name, array in state.items():
        assert np.isfinite(array).all(), name
