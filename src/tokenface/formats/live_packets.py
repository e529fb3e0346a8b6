"""Live face-capture packets: Live Link Face (Unreal) and VMC over OSC (VRM tools).

Live Link Face, version 6, one packet a frame: int32 version (little-endian); everything else big-endian: '$' and a
UUID as 37 characters; int32 length and UTF-8 of the subject's name; int32 frame, float32 part of the frame, int32
frames per second, int32 denominator; uint8 61 and as many float32: ARKit's 52 weights and nine angles.
VMC (virtual motion capture protocol): OSC bundles of /VMC/Ext/... messages.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence

from tokenface.formats.live_link import ACTIONS, ANGLES, ORDER, LiveLinkRow

VERSION = 6
VALUES = len(ACTIONS) + len(ANGLES)


def live_link_packet(row: LiveLinkRow, rate: float, subject: str, device: str) -> bytes:
    """One frame for Unreal's Live Link.

    Args:
        row: time in seconds, 52 weights, nine angles in radians.
        rate: frames per second of the time code.
        subject: how Unreal lists the face.  device: UUID, 36 characters.
    """
    name = subject.encode("utf-8")
    ticks = row.time * rate
    frame = math.floor(ticks + 1e-9)
    values = [*row.weights[ORDER].tolist(), *row.angles.tolist()]
    return b"".join(
        (
            struct.pack("<i", VERSION),
            f"${device}".encode("ascii"),
            struct.pack(">i", len(name)),
            name,
            struct.pack(">ifii", frame, max(ticks - frame, 0.0), round(rate), 1),
            struct.pack(f">B{VALUES}f", VALUES, *values),
        )
    )


def vmc_packet(time: float, weights: Mapping[str, float], bones: Mapping[str, Sequence[float]]) -> bytes:
    """One frame for VMC receivers, as an OSC bundle.

    Args:
        time: seconds.  weights: expression → value; ARKit's names ("perfect sync") and VRM's.
        bones: Unity's bone name → quaternion x, y, z, w in Unity's left-handed axes (`unity_quaternion`).
    """
    messages = [osc_message("/VMC/Ext/OK", 1), osc_message("/VMC/Ext/T", float(time))]
    for bone, turn in bones.items():
        messages.append(osc_message("/VMC/Ext/Bone/Pos", bone, 0.0, 0.0, 0.0, *(float(x) for x in turn)))
    for name, weight in weights.items():
        messages.append(osc_message("/VMC/Ext/Blend/Val", name, float(weight)))
    messages.append(osc_message("/VMC/Ext/Blend/Apply"))
    return osc_bundle(messages)


def osc_message(address: str, *values: str | int | float) -> bytes:
    """An OSC 1.0 message: address, type tags, arguments; all in multiples of four bytes, big-endian."""
    tags, data = ",", b""
    for value in values:
        if isinstance(value, str):
            tags, data = tags + "s", data + _osc_text(value)
        elif isinstance(value, int):
            tags, data = tags + "i", data + struct.pack(">i", value)
        else:
            tags, data = tags + "f", data + struct.pack(">f", value)
    return _osc_text(address) + _osc_text(tags) + data


def osc_bundle(messages: Sequence[bytes]) -> bytes:
    """Messages that belong together, to be taken at once (time tag 1)."""
    parts = [struct.pack(">i", len(message)) + message for message in messages]
    return _osc_text("#bundle") + struct.pack(">Q", 1) + b"".join(parts)


def unity_quaternion(quaternion: Sequence[float]) -> tuple[float, float, float, float]:
    """x, y, z, w in a right-handed space with +z out of the face → Unity's left-handed one, x mirrored."""
    x, y, z, w = quaternion
    return x, -y, -z, w


def _osc_text(text: str) -> bytes:
    data = text.encode("utf-8") + b"\0"
    return data + bytes(-len(data) % 4)
