"""Decoding BlazeFace: anchors, boxes, merging; against slow readable references."""

import math

import numpy as np
import pytest

from tokenface.images.blazeface import BACK, FULL_RANGE, Candidates, anchors, box_iou, decode, weighted_nms


def reference_anchors(size: int, strides: list[int], interpolated: bool) -> list[tuple[float, float]]:
    """The SSD rule as published: layers of equal stride share a grid; each contributes its aspect ratio 1 and, when
    interpolated, one more."""
    out, layer = [], 0
    while layer < len(strides):
        same = layer
        count = 0
        while same < len(strides) and strides[same] == strides[layer]:
            count += 2 if interpolated else 1
            same += 1
        cells = math.ceil(size / strides[layer])
        for row in range(cells):
            for column in range(cells):
                out += [((column + 0.5) / cells, (row + 0.5) / cells)] * count
        layer = same
    return out


@pytest.mark.parametrize(
    ("options", "strides", "interpolated", "count"),
    [(FULL_RANGE, [4], False, 2304), (BACK, [16, 32, 32, 32], True, 896)],
)
def test_anchors_follow_the_published_rule(options, strides, interpolated, count):
    expected = reference_anchors(options.size, strides, interpolated)
    assert len(expected) == count
    np.testing.assert_allclose(anchors(options), expected, atol=1e-12)


def test_decoding_offsets_from_the_anchor_in_pixels_of_the_input():
    raw = np.zeros((896, 16), np.float32)
    logits = np.full(896, -80.0, np.float32)
    logits[100], logits[200] = 1.5, -0.5
    raw[100] = [16, -32, 64, 128, *([8, 24] * 6)]
    found = decode(raw, logits, BACK, 0.5)
    assert len(found) == 1
    x, y = anchors(BACK)[100]
    np.testing.assert_allclose(found.boxes[0], [x - 0.0625, y - 0.375, x + 0.1875, y + 0.125])
    np.testing.assert_allclose(found.keypoints[0, 3], [x + 8 / 256, y + 24 / 256])
    assert found.scores[0] == pytest.approx(1 / (1 + math.exp(-1.5)))


def candidates(boxes, scores) -> Candidates:
    boxes = np.array(boxes, float)
    return Candidates(boxes, np.repeat(boxes[:, None, :2], 6, 1), np.array(scores, float))


def test_overlapping_candidates_merge_into_their_weighted_mean():
    merged = weighted_nms(candidates([[0, 0, 2, 2], [1, 0, 3, 2], [10, 10, 12, 12]], [0.6, 0.3, 0.9]))
    np.testing.assert_allclose(merged.scores, [0.9, 0.6])
    np.testing.assert_allclose(merged.boxes[1], (0.6 * np.array([0, 0, 2, 2]) + 0.3 * np.array([1, 0, 3, 2])) / 0.9)
    np.testing.assert_allclose(merged.keypoints[1], np.repeat([[1 / 3, 0]], 6, 0), atol=1e-12)
    assert len(weighted_nms(candidates(np.zeros((0, 4)), []))) == 0


def test_overlap_is_intersection_over_union():
    boxes = np.array([[0, 0, 2, 2], [1, 1, 3, 3], [5, 5, 6, 6], [0, 0, 2, 1]], float)
    np.testing.assert_allclose(box_iou(boxes[0], boxes), [1, 1 / 7, 0, 0.5])


def test_mapping_by_a_quarter_turn_swaps_the_sides():
    turn = np.array([[0.0, -2.0, 10.0], [2.0, 0.0, 5.0]])
    mapped = candidates([[0, 0, 4, 2]], [1.0]).mapped(turn)
    corners = np.array([[0, 0], [4, 0], [4, 2], [0, 2]]) @ turn[:, :2].T + turn[:, 2]
    np.testing.assert_allclose(mapped.boxes[0], [*corners.min(0), *corners.max(0)])
    np.testing.assert_allclose(mapped.keypoints[0, 0], [10, 5])
