"""TV-L1 flow of pictures whose motion is known, and its histograms against loops."""

import numpy as np
import pytest

from unirep_jax.data.optical_flow import flow_histograms, tv_l1_flow


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth blobs of about four pixels, without a border."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:height, :width] * 2 * np.pi
    picture = np.zeros((height, width))
    for _ in range(30):
        frequency, phase = rng.integers(-height // 8, height // 8, 2), rng.uniform(0, 2 * np.pi)
        picture += np.cos(frequency[0] * row / height + frequency[1] * column / width + phase)
    return picture


def moving(right: int, down: int, frames: int = 3, size: int = 32) -> np.ndarray:
    """A texture that every frame shows further to the right and further down."""
    picture = texture(64, 64)
    start = 20
    return np.stack(
        [picture[start - t * down :, start - t * right :][:size, :size] for t in range(frames)]
    )


# -- TV-L1 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("right", "down"), [(1, 0), (0, 1), (-1, 0), (2, -1)])
def test_the_flow_of_a_moving_picture_is_its_motion_in_pixels_a_frame(right, down):
    flow = tv_l1_flow(moving(right, down))
    assert flow.dtype == np.float32 and flow.shape == (3, 32, 32, 2)
    inside = flow[:, 5:-5, 5:-5]
    np.testing.assert_allclose(inside, np.broadcast_to([right, down], inside.shape), atol=0.2)


def test_the_last_frame_has_the_flow_of_the_one_before():
    clip = np.concatenate([moving(1, 0), moving(1, 0)[-1:]])
    flow = tv_l1_flow(clip)
    assert flow[1, 8:-8, 8:-8, 0].min() > 0.8
    np.testing.assert_array_equal(flow[3], flow[2])
    assert np.abs(flow[2]).max() < 1e-3, "the last two frames are equal"


def test_what_stands_still_has_no_flow():
    picture = np.broadcast_to(texture(24, 24), (3, 24, 24))
    assert np.abs(tv_l1_flow(picture)).max() < 1e-4
    for value in (0, 200, 1e-300):
        assert not tv_l1_flow(np.full((3, 24, 24), value)).any()


def test_units_and_type_of_the_pixels_do_not_matter():
    clip = moving(1, 0, frames=2, size=24)
    clip = np.round(255 * (clip - clip.min()) / np.ptp(clip))
    flow = tv_l1_flow(clip)
    for other in (clip.astype(np.uint8), (1000 + 7 * clip).astype(np.int32), clip / 1e30):
        np.testing.assert_allclose(tv_l1_flow(other), flow, atol=1e-3)


def test_colours_are_averaged():
    clip = moving(1, 0, frames=2, size=24)
    colours = np.stack([2 * clip, clip, 0 * clip], axis=-1)
    np.testing.assert_allclose(tv_l1_flow(colours), tv_l1_flow(clip), atol=1e-4)


@pytest.mark.parametrize(
    ("clip", "message"),
    [
        (np.ones((4, 5)), r"\[time, height, width\].*float64 \(4, 5\)"),
        (np.ones((2, 4, 5, 3, 1)), r"\(2, 4, 5, 3, 1\)"),
        (np.ones((2, 4, 5), bool), "numbers.*bool"),
        (np.ones((1, 4, 5)), r"two frames of 2 × 2 pixels.*\(1, 4, 5\)"),
        (np.ones((2, 1, 5)), "two frames of 2 × 2 pixels"),
        (np.ones((2, 4, 5, 0)), "two frames of 2 × 2 pixels"),
        (np.stack([np.ones((4, 5)), np.full((4, 5), np.nan)]), "finite values.*frame 1"),
    ],
)
def test_what_is_no_clip_is_refused(clip, message):
    with pytest.raises(ValueError, match=message):
        tv_l1_flow(clip)


# -- histograms ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cells", "orientations"), [(1, 2), (2, 8), (3, 5)])
def test_histograms_are_those_of_the_formula(rng, cells, orientations):
    flow = rng.standard_normal((2, 7, 6, 2)).astype(np.float32)
    expected = np.zeros((2, cells, cells, orientations))
    for t, y, x in np.ndindex(2, 7, 6):
        i, j = y * cells // 7, x * cells // 6
        pixels = sum(r * cells // 7 == i for r in range(7))
        pixels *= sum(c * cells // 6 == j for c in range(6))
        right, down = flow[t, y, x].astype(np.float64)
        for o in range(orientations):
            turn = 2 * np.pi / orientations
            away = np.angle((right + 1j * down) * np.exp(-1j * turn * o)) / turn
            share = max(0, 1 - abs(away))
            expected[t, i, j, o] += np.hypot(right, down) * share / pixels
    found = flow_histograms(flow, cells=cells, orientations=orientations)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.reshape(2, -1), atol=1e-5)


def test_the_bins_of_a_cell_add_up_to_its_mean_speed(rng):
    flow = rng.standard_normal((3, 8, 8, 2))
    found = flow_histograms(flow, cells=2).reshape(3, 2, 2, 8).sum(-1)
    speed = np.linalg.norm(flow, axis=-1).reshape(3, 2, 4, 2, 4).mean((2, 4))
    np.testing.assert_allclose(found, speed, rtol=1e-5)


@pytest.mark.parametrize(
    ("direction", "first"), [((1, 0), 0), ((0, 1), 2), ((-1, 0), 4), ((1, -1), 7)]
)
def test_orientations_run_from_the_right_downwards(direction, first):
    flow = np.broadcast_to(np.array(direction, np.float32), (1, 4, 4, 2))
    found = flow_histograms(flow, cells=1)[0]
    assert found.argmax() == first
    np.testing.assert_allclose(found.sum(), found[first], rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "settings", "message"),
    [
        ((2, 4, 4), {}, r"\[time, height, width, 2\].*\(2, 4, 4\)"),
        ((2, 4, 4, 3), {}, r"\(2, 4, 4, 3\)"),
        ((2, 3, 8, 2), {}, "cells=4.*3 × 8 pixels"),
        ((2, 8, 8, 2), {"cells": 0}, "cells=0"),
        ((2, 8, 8, 2), {"orientations": 1}, "orientations=1"),
    ],
)
def test_histograms_that_cannot_be_are_refused(shape, settings, message):
    with pytest.raises(ValueError, match=message):
        flow_histograms(np.ones(shape, np.float32), **settings)
