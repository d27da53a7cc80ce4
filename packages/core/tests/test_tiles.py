"""Tiles and weights: every pixel is covered, and its weights add up to one."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from terrazzo.inference import tiles
from terrazzo.inference.tiles import first_open

AXES = st.tuples(
    st.integers(1, 700),
    st.integers(1, 130),
    st.integers(0, 129),
    st.sampled_from(tiles.BLENDS),
).filter(lambda axis: axis[2] < axis[1])


def summed(shares, length):
    total = np.zeros(length)
    for share in shares:
        total[share.first : share.last] += share.weights
    return total


@given(AXES)
@example((1, 512, 128, "linear"))
@example((7919, 509, 127, "cosine"))
@example((513, 512, 511, "linear"))
def test_weights_add_up_to_one_at_every_pixel(axis):
    length = axis[0]
    shares = tiles.shares(*axis)
    np.testing.assert_allclose(summed(shares, length), 1, atol=3e-7)
    for share in shares:
        assert (share.weights >= 0).all()
        assert len(share.weights) == share.last - share.first


@given(AXES)
def test_tiles_lie_inside_and_have_one_size(axis):
    length, tile, overlap, _ = axis
    shares = tiles.shares(*axis)
    assert shares[0].start == 0
    assert shares[-1].stop == length
    for share in shares:
        assert share.stop - share.start == min(tile, length)
        assert share.start <= share.first < share.last <= share.stop
    for one, following in pairwise(shares):
        assert one.start < following.start
        assert one.stop - following.start >= overlap


@given(AXES)
def test_weight_is_one_between_the_ramps(axis):
    for share in tiles.shares(*axis):
        stop = len(share.weights) - share.ramp_out
        np.testing.assert_array_equal(share.weights[share.ramp_in : stop], 1)


@given(AXES)
def test_ramps_of_neighbours_cover_each_other(axis):
    """Outside its ramps a tile has a pixel to itself: the blending in `scene` relies on it."""
    length = axis[0]
    shares = tiles.shares(*axis)
    owners = np.zeros(length, int)
    for share in shares:
        owners[share.first : share.last] += 1
    for share in shares:
        assert (owners[share.first + share.ramp_in : share.last - share.ramp_out] == 1).all()


@given(AXES)
def test_without_blending_every_pixel_has_one_tile(axis):
    length, tile, overlap, _ = axis
    shares = tiles.shares(length, tile, overlap, "none")
    np.testing.assert_array_equal(summed(shares, length), 1)
    assert sum(share.last - share.first for share in shares) == length


@given(AXES)
def test_a_quarter_of_the_overlap_is_thrown_away(axis):
    _, _, overlap, _ = axis
    shares = tiles.shares(*axis)
    for one, following in pairwise(shares):
        assert one.stop - one.last >= overlap // 4
        assert following.first - following.start >= overlap // 4


@given(AXES)
def test_rows_are_final_once_no_later_tile_reaches_them(axis):
    shares = tiles.shares(*axis)
    final = first_open(shares)
    assert final[-1] == axis[0]
    for number, stop in enumerate(final):
        assert all(later.first >= stop for later in shares[number + 1 :])


def test_linear_ramp_by_hand():
    first, second = tiles.shares(12, 8, 4)
    assert (first.start, first.stop, second.start, second.stop) == (0, 8, 4, 12)
    # Overlap 4…8: a quarter of it, one pixel, is dropped at each end; two pixels share.
    assert first.weights.tolist() == [1, 1, 1, 1, 1, 0.75, 0.25]
    assert second.weights.tolist() == [0.25, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(("length", "tile"), [(1, 1), (1, 512), (511, 512), (512, 512)])
def test_one_tile_is_enough_for_a_short_axis(length, tile):
    (share,) = tiles.shares(length, tile, 0)
    assert (share.start, share.stop) == (0, length)
    np.testing.assert_array_equal(share.weights, 1)
