"""The graph that is written: raw pixels in, logits or probabilities out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
from keras import layers

from terrazzo.models.exporter import INPUT, LABELS
from terrazzo_keras.raw_pixels import NormalizePixels

if TYPE_CHECKING:
    from terrazzo.models.exporter import GraphForm
    from terrazzo_keras.trainer import KerasTrainer


def graph(trainer: KerasTrainer, form: GraphForm) -> keras.Model:
    """Return a model with the trained weights, in float32, for images as `form` has them.

    Its layers are a chain, one of which is the network. Labels are no output of it: what a runtime
    takes for them is added in its own file.
    """
    num_bands = len(trainer.bands)
    size = (None, None) if form.size is None else form.size
    channels_first = form.layout == "NCHW"
    shape = (num_bands, *size) if channels_first else (*size, num_bands)
    image = keras.Input(shape, name=INPUT, dtype=form.dtype)
    x = image
    if form.normalization == "inside":
        axis = 1 if channels_first else -1
        x = NormalizePixels(trainer.bands.mean, trainer.bands.std, axis, name="normalize")(x)
    if channels_first:
        x = layers.Permute((2, 3, 1), name="channels_last", dtype="float32")(x)
    x = trainer.float32_network(x)
    if form.output == "probabilities":
        x = layers.Softmax(name="probabilities", dtype="float32")(x)
    if channels_first:
        x = layers.Permute((3, 1, 2), name="channels_first", dtype="float32")(x)
    return keras.Model(image, x, name="from_raw_pixels")


def graph_function(model: keras.Model, form: GraphForm, labels: str | None = None) -> Any:
    """Return a `tf.function` with named input and outputs.

    Args:
        model: from `graph`.
        form: of it.
        labels: dtype of a second output, the best class of each pixel; None: none.
    """
    import tensorflow as tf

    axis = 1 if form.layout == "NCHW" else 3

    def outputs(image: Any) -> dict[str, Any]:
        scores = model(image, training=False)
        named: dict[str, Any] = {form.output: tf.identity(scores, form.output)}
        if labels is not None:
            named[LABELS] = tf.cast(tf.argmax(scores, axis), labels)
        return named

    (image,) = model.inputs
    signature = [tf.TensorSpec(image.shape, image.dtype, name=INPUT)]
    return tf.function(outputs, input_signature=signature, autograph=False)
