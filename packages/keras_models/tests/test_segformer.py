"""What parity with PyTorch (tests/test_parity.py) does not say of the SegFormer."""

import numpy as np
from keras import ops

from terrazzo_keras.models import segformer


def test_branches_are_left_out_in_training_alone():
    options = segformer.Options(size="tiny", drop_path=0.9, dropout=0)
    network = segformer.build(options, 3, 2)
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 3)).astype(np.float32)
    same = np.repeat(image, 16, axis=0)
    logits = ops.convert_to_numpy(network(same, training=False))
    np.testing.assert_allclose(logits, np.repeat(logits[:1], 16, axis=0), atol=1e-6)
    trained = ops.convert_to_numpy(network(same, training=True))
    assert len({image.tobytes() for image in trained.round(4)}) > 1


def test_depth_decides_how_often_a_branch_is_left_out():
    network = segformer.build(segformer.Options(size="b0", drop_path=0.7), 3, 2)
    rates = [layer.rate for layer in network.layers if layer.name.endswith("_drop_path")]
    np.testing.assert_allclose(rates, np.repeat(np.arange(8) / 10, 2))
