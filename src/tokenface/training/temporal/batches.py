"""Runs of frames for one step, out of synthetic clips and out of real ones: at the clip's own rate, or thinned out."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from tokenface.training.temporal.features import ClipFeatures
from tokenface.training.temporal.records import RecordFeatures


def synthetic_runs(
    clips: ClipFeatures, count: int, length: int, strides: Sequence[int], generator: torch.Generator
) -> ClipFeatures:
    """`count` runs of `length` frames from anywhere, each at one of the strides."""
    which = torch.randint(len(clips), (count,), generator=generator).tolist()
    return ClipFeatures.stack(
        [clips[clip].run(_frames(clips.tokens.shape[1], length, strides, generator)) for clip in which]
    )


def real_runs(
    clips: Sequence[RecordFeatures], count: int, length: int, strides: Sequence[int], generator: torch.Generator
) -> RecordFeatures:
    """The same of real clips, each of `length` frames or more; long ones are drawn from more often."""
    ends = torch.tensor([len(clip) for clip in clips]).cumsum(0)
    drawn = torch.randint(int(ends[-1]), (count,), generator=generator)
    which = torch.searchsorted(ends, drawn, right=True).tolist()
    return RecordFeatures.stack(
        [clips[clip].run(_frames(len(clips[clip]), length, strides, generator)) for clip in which]
    )


def _frames(available: int, length: int, strides: Sequence[int], generator: torch.Generator) -> slice:
    """`length` frames of a clip; strides that do not fit are not taken."""
    fitting = [stride for stride in strides if (length - 1) * stride < available] or [1]
    stride = fitting[int(torch.randint(len(fitting), (1,), generator=generator))]
    reach = (length - 1) * stride + 1
    first = int(torch.randint(available - reach + 1, (1,), generator=generator))
    return slice(first, first + reach, stride)
