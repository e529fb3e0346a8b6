"""People of a set of photos: chips, groups against known people, photos with several faces."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from people_pictures import rendered_people

import tokenface
from tokenface.errors import ImageError
from tokenface.geometry.crop import extract
from tokenface.identity.alignment import aligned_faces
from tokenface.identity.recognition import CHIP_POINTS, chip_crop, recognition_vectors
from tokenface.images.loading import ImageItem
from tokenface.inference.people import LIMIT, group_vectors


@pytest.fixture(scope="module")
def people() -> tuple[np.ndarray, np.ndarray]:
    return rendered_people(6, 3, seed=4)


def test_chips_of_a_photo_are_those_of_the_differentiable_alignment(people):
    images, landmarks = people
    pictures = torch.from_numpy(images[:4]).permute(0, 3, 1, 2).float() / 255
    expected = aligned_faces(pictures, torch.from_numpy(landmarks[:4] / 96 - 1), CHIP_POINTS, 150)
    for picture, points, chip in zip(images, landmarks, expected, strict=False):
        found = extract(picture, [chip_crop(points)], 150)[0]
        inside = chip.sum(0) > 0  # beyond the picture one is black and the other repeats its edge
        assert float((found - chip).abs()[:, inside].mean()) < 0.01


def test_turned_faces_have_upright_chips(people):
    images, landmarks = people
    turned = np.ascontiguousarray(np.rot90(images[0]))  # anticlockwise: (x, y) goes to (y, width − x)
    points = np.stack([landmarks[0][:, 1], 192 - landmarks[0][:, 0]], 1)
    upright = extract(images[0], [chip_crop(landmarks[0])], 150)
    assert float((extract(turned, [chip_crop(points)], 150) - upright).abs().mean()) < 0.005


def test_people_are_found_again_in_their_photos(people):
    images, landmarks = people
    pictures, faces = images[:15], []
    order = np.random.default_rng(1).permutation(15)
    for place in order:
        item = ImageItem(f"photo{place}", pictures[place])
        faces.append(SimpleNamespace(item=item, landmarks=landmarks[place], place=place))
    found = tokenface.group_people(faces, threshold=0.45)
    assert sorted(sorted(int(face.place) for face in person) for person in found) == [
        [3 * i, 3 * i + 1, 3 * i + 2] for i in range(5)
    ]
    assert tokenface.group_people([]) == []


def test_two_faces_of_one_photo_are_two_people_unless_it_is_a_mirror(people):
    images, landmarks = people
    both = np.concatenate([images[0], images[0]], axis=1)
    item = ImageItem("mirror", both)
    faces = [SimpleNamespace(item=item, landmarks=landmarks[0] + [shift, 0]) for shift in (0, 192)]
    assert [len(person) for person in tokenface.group_people(faces)] == [1, 1]
    assert [len(person) for person in tokenface.group_people(faces, one_in_photo=False)] == [2]


def test_groups_are_numbered_by_size_and_keep_apart_what_must_be():
    generator = np.random.default_rng(0)
    people = generator.normal(size=(4, 128)) / np.sqrt(128) * 0.6
    of = np.array([2, 0, 0, 1, 1, 1, 3, 0, 1])
    vectors = people[of] + generator.normal(size=(9, 128)) / np.sqrt(128) * 0.2
    assert group_vectors(vectors).tolist() == [2, 1, 1, 0, 0, 0, 3, 1, 0]
    # the sixth and the ninth are of one photo, so that at least one of them leaves the group
    apart = group_vectors(vectors, photos=[0, 1, 2, 3, 4, 8, 6, 7, 8])
    assert apart[5] != apart[8]
    assert apart[3] == apart[4]
    assert group_vectors(vectors[:1]).tolist() == [0]
    assert group_vectors(np.empty((0, 128))).tolist() == []
    with pytest.raises(ImageError, match="too many"):
        group_vectors(np.empty((LIMIT + 1, 1)))


def test_a_vector_does_not_depend_on_its_neighbours(people):
    images, landmarks = people
    both = np.concatenate([images[0], images[3]], axis=1)
    points = [landmarks[0], landmarks[3] + [192, 0]]
    together = recognition_vectors(both, points)
    assert together.shape == (2, 128)
    for place in range(2):
        np.testing.assert_allclose(together[place], recognition_vectors(both, [points[place]])[0], atol=1e-5)
    assert recognition_vectors(both, []).shape == (0, 128)
