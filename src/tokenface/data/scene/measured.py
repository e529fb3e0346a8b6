"""What is measured once per head model: its anatomy and its cast shadows, shared by all generators of a process."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import numpy as np
import torch

from tokenface.data.scene.anatomy import Anatomy
from tokenface.data.scene.lighting import ShadowTable
from tokenface.head.model import HeadModel

KEPT = 4
"""Head models whose measures are kept."""
_measures: OrderedDict[str, tuple[Anatomy, ShadowTable]] = OrderedDict()


def measured(head: HeadModel) -> tuple[Anatomy, ShadowTable]:
    """Anatomy and shadows of the mean head, on the CPU; head models with the same arrays share them.

    Nobody may change them: both `to` give copies.
    """
    key = _content(head)
    if key not in _measures:
        with torch.inference_mode(False), torch.no_grad():  # others may use them with gradients
            anatomy = Anatomy.of(head)
            template, faces = head.template.detach().cpu(), head.faces.cpu()
            _measures[key] = anatomy, ShadowTable(template, faces, ~(anatomy.inside | anatomy.eyeball))
        while len(_measures) > KEPT:
            _measures.popitem(last=False)
    _measures.move_to_end(key)
    return _measures[key]


def _content(head: HeadModel) -> str:
    """Of all that the measures depend on: mean head, triangles, regions, skinning weights, landmarks."""
    data, digest = head.data, hashlib.sha256()
    landmarks = (
        data.static_landmark_faces, data.static_landmark_barycentrics, data.contour_faces, data.contour_barycentrics,
    )  # fmt: skip
    for array in (head.template.detach().cpu().numpy(), data.faces, data.skinning_weights, *landmarks):
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    for name, indices in sorted(data.regions.items()):
        digest.update(f"{name} {len(indices)}".encode())
        digest.update(np.ascontiguousarray(indices).tobytes())
    return digest.hexdigest()
