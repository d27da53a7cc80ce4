"""Images normalised each by itself are what TensorFlow's own function makes of them."""

import numpy as np
import pytest

from terrazzo.data.image_standardization import moments_of_image, standardized

tf = pytest.importorskip("tensorflow")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_whole_numbers_are_standardised_as_by_tensorflow(dtype):
    draw = np.random.default_rng(0)
    noise = draw.integers(0, np.iinfo(dtype).max, (24, 36, 3)).astype(dtype)
    one_value = np.full((24, 36, 3), 7, dtype)
    nearly_one = one_value.copy()
    nearly_one[3, 5, 1] = 8  # its deviation lies below the least, 1 / √N
    for image_HWC in (noise, one_value, nearly_one):
        found = standardized(image_HWC, moments_of_image(image_HWC, None))
        wanted = tf.image.per_image_standardization(image_HWC).numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
