"""Jitter, lag and picture error against motions whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

from tokenface.evaluation.video_metrics import (
    error_curve,
    photometric_error,
    second_differences,
    track_jitter,
    track_lag,
)


def test_steady_motion_has_no_jitter():
    time = np.arange(20.0)[:, None, None]
    steady = time * np.array([1.0, 2.0, 3.0]) + np.zeros((20, 5, 3))
    assert track_jitter(steady, steady[..., :2]).vertices == pytest.approx(0, abs=1e-9)


def test_a_point_that_swings_has_four_times_its_amplitude():
    swing = np.zeros((30, 4, 3))
    swing[::2, :, 0], swing[1::2, :, 0] = 0.001, -0.001
    found = track_jitter(swing, 1000 * swing[..., :2])
    assert found.vertices == pytest.approx(4)  # millimetres per frame²
    assert found.landmarks == pytest.approx(4)


def test_gaps_do_not_count_as_jumps():
    track = np.zeros((10, 3, 3))
    track[5] = np.nan
    present = np.ones(10, bool)
    present[5] = False
    lengths = second_differences(track, present)
    assert np.isnan(lengths).sum() == 3
    assert track_jitter(track, track[..., :2], present).vertices == 0


@pytest.mark.parametrize("frames", [0, 1, 3, -2])
def test_lag_counts_whole_frames(frames):
    walk = np.cumsum(np.random.default_rng(0).normal(size=(200, 6)), axis=0)
    assert track_lag(np.roll(walk, frames, axis=0)[5:-5], walk[5:-5]) == pytest.approx(frames, abs=0.1)


def test_lag_of_a_low_pass_is_its_delay():
    time = np.arange(300) / 30
    wave = np.stack([np.sin(2 * np.pi * 0.7 * time), np.cos(2 * np.pi * 1.1 * time)], axis=1)
    smooth = np.zeros_like(wave)
    smooth[0] = wave[0]
    for t in range(1, len(wave)):
        smooth[t] = 0.4 * wave[t] + 0.6 * smooth[t - 1]
    assert track_lag(smooth[30:], wave[30:]) == pytest.approx(0.6 / 0.4, abs=0.25)


def test_a_still_signal_has_no_lag():
    assert track_lag(np.ones((30, 2)), np.ones((30, 2))) == 0


def test_picture_error_counts_the_mask_alone():
    frame = np.zeros((8, 8, 3))
    drawn = frame.copy()
    drawn[:4] = 0.5
    mask = np.zeros((8, 8))
    mask[2:6] = 1
    assert photometric_error(drawn, frame, mask) == pytest.approx(255 * 0.25)
    assert np.isnan(photometric_error(drawn, frame, 0 * mask))


def test_the_curves_summary_leaves_out_frames_without_a_face():
    summary = error_curve([1.0, 2.0, float("nan"), 6.0])
    assert (summary["mean"], summary["median"], summary["frames"]) == (3, 2, 0.75)
    assert np.isnan(error_curve([float("nan")])["mean"])
