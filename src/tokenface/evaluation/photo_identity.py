"""Does one person's head stay the same from photo to photo? Needs no scans, only several photos of each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import torch
from torch import Tensor

from tokenface.data.record import PhotoRecord
from tokenface.errors import EvaluationError
from tokenface.evaluation.landmarks import evaluation_crops
from tokenface.evaluation.photo_statistics import shape_variance_ratio
from tokenface.head.model import HeadModel
from tokenface.losses.vertex_weights import mode_importance
from tokenface.parameters import FaceParameters

BATCH = 64


@torch.inference_mode()
def within_over_between(
    predict: Callable[[Tensor], FaceParameters], head: HeadModel, records: list[PhotoRecord], size: int
) -> dict[str, float]:
    """Variance of the answered shapes among the photos of a person, over the variance of people's true means.

    Shapes are measured by what they move (Eq. 3's weights, squared). The variance of the means is corrected for what
    the photos of a person scatter; 0 is an identity that never changes, and above 1 a photo says more than the person.

    Args:
        predict: crops [B, 3, S, S] → parameters.  records: of at least two people with two photos each.
    Raises:
        EvaluationError: too few people or photos.
    """
    people: dict[str, list[int]] = defaultdict(list)
    for index, record in enumerate(records):
        people[record.identity].append(index)
    groups = [rows for rows in people.values() if len(rows) > 1]
    if len(groups) < 2:
        raise EvaluationError("identity over photos needs two people with two photos each")
    crops = [evaluation_crops(records[i : i + BATCH], size)[0] for i in range(0, len(records), BATCH)]
    shapes = torch.cat([predict(images).shape for images in crops]) * mode_importance(head)
    ratio = shape_variance_ratio(shapes.double().numpy(), [record.identity for record in records])
    return {"photos": sum(len(rows) for rows in groups), "people": len(groups), "within / between": ratio}
