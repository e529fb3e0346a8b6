"""Decoded frames as sRGB: HDR clips are tone mapped, others are converted as their numbers say, or by their size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

from tokenface.formats.clip_files import UNSPECIFIED, usual_matrix
from tokenface.images.colour import PRIMARIES, TRANSFERS
from tokenface.images.tone_mapping import BT2020_TO_BT709, tone_mapped

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

MATRICES = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""Red's and blue's share of luma by number (ITU-T H.273)."""
FULL_RANGE = 2


@dataclass(frozen=True)
class Colours:
    """What a stream says of its numbers (ITU-T H.273): transfer, primaries, matrix; range is FFmpeg's.

    codec: FFmpeg's name of it.
    """

    transfer: int
    primaries: int
    matrix: int
    range: int
    codec: str = ""

    @classmethod
    def of(cls, stream: VideoStream) -> Colours:
        """As the decoder says once it has decoded a frame."""
        facts = stream.codec_context
        return cls(
            transfer=int(facts.color_trc or 0),
            primaries=int(facts.color_primaries or 0),
            matrix=int(facts.colorspace or 0),
            range=int(facts.color_range or 0),
            codec=facts.name,
        )

    def srgb(self, frame: VideoFrame) -> np.ndarray:
        """[H, W, 3] uint8 sRGB of a frame as it is stored."""
        curve = TRANSFERS.get(self.transfer)
        if curve is None:
            unsaid = UNSPECIFIED in (self.matrix, frame.colorspace) and not frame.format.is_rgb
            matrix = usual_matrix(frame.width, frame.height, self.codec) if unsaid else None
            return frame.to_ndarray(format="rgb24", src_colorspace=matrix)
        to_bt709 = PRIMARIES.get(self.primaries, BT2020_TO_BT709)
        return tone_mapped(_signal(frame, self.matrix, self.range), curve, to_bt709)


def _signal(frame: VideoFrame, colorspace: int, color_range: int) -> np.ndarray:
    """[H, W, 3] uint16, full range. The matrix is ours: FFmpeg's scaler loses some precision."""
    if frame.format.is_rgb:
        return frame.to_ndarray(format="rgb48le")
    planes = np.ascontiguousarray(frame.to_ndarray(format="yuv444p16le"))
    red, blue = MATRICES.get(colorspace, MATRICES[9])
    green = 1 - red - blue
    black, luma, chroma = (0.0, 1.0, 1.0) if color_range == FULL_RANGE else (4096.0, 65535 / 56064, 65535 / 57344)
    colour = np.array(
        [
            [luma, 0, 2 * (1 - red) * chroma],
            [luma, -2 * (1 - blue) * blue / green * chroma, -2 * (1 - red) * red / green * chroma],
            [luma, 2 * (1 - blue) * chroma, 0],
        ]
    )
    shift = -colour @ np.array([black, 32768.0, 32768.0])
    rgb = cv2.transform(planes.astype(np.float32), np.hstack([colour, shift[:, None]]).astype(np.float32))
    return np.clip(np.rint(rgb), 0, 65535).astype(np.uint16)
