"""Live packets of tracked faces over the network."""

from __future__ import annotations

import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from tokenface.errors import ConfigError, OutputError
from tokenface.formats.live_link import LiveLinkRow
from tokenface.formats.live_packets import live_link_packet, unity_quaternion, vmc_packet
from tokenface.formats.vrm import EXPRESSIONS
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.inference.expressions import eye_rotations
from tokenface.video.face import TrackedFace, TrackedFrame

LIVE_LINK_PORT, VMC_PORT = 11111, 39539
RATE = 60.0
"""Frames per second of the time code."""
VRM_MOUTH = {"A": "aa", "I": "ih", "U": "ou", "E": "ee", "O": "oh"}
"""VRM 0's names, which receivers know best, and VRM 1's of the same."""


@dataclass(frozen=True)
class Address:
    """A UDP receiver."""

    host: str
    port: int

    @staticmethod
    def of(text: str, port: int) -> Address:
        """`host`, `host:port` or `[v6]:port`.

        Raises:
            ConfigError: no host, or a port that is none.
        """
        host, colon, number = (
            text.rpartition(":") if not text.endswith("]") and text.count(":") != 0 else (text, "", "")
        )
        host = host.strip("[]")
        if not host or (colon and not (number.isdigit() and 0 < int(number) < 65536)):
            raise ConfigError(f"expected HOST:PORT, for example 127.0.0.1:{port}, got '{text}'")
        return Address(host, int(number) if colon else port)


class Broadcast:
    """Sends each frame to all receivers. One socket; a receiver that is not there costs nothing (UDP).

    sent: packets that left.  Use as a context manager, or `close` it.
    """

    def __init__(self, live_link: Iterable[Address] = (), vmc: Iterable[Address] = (), subject: str = "TokenFace"):
        self._live_link, self._vmc = list(live_link), list(vmc)
        self._subject, self._device = subject, str(uuid.uuid4()).upper()
        self._sockets: dict[int, socket.socket] = {}
        self._places: dict[Address, tuple[socket.socket, tuple]] = {}
        self.sent = 0

    def send(self, frame: TrackedFrame) -> int:
        """Send the faces of a frame: the first under the subject's name, others with a number behind it.

        Raises:
            OutputError: the host has no address, or the network refuses.
        """
        before = self.sent
        for place, face in enumerate(frame.faces):
            row = live_link_row(face, frame.time)
            subject = self._subject if place == 0 else f"{self._subject}_{place + 1}"
            for address in self._live_link:
                self._to(address, live_link_packet(row, RATE, subject, self._device))
            if place == 0:  # VMC knows one performer
                for address in self._vmc:
                    self._to(address, vmc_frame(face, frame.time))
        return self.sent - before

    def close(self) -> None:
        for each in self._sockets.values():
            each.close()

    def __enter__(self) -> Broadcast:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _to(self, address: Address, packet: bytes) -> None:
        try:
            if address not in self._places:
                family, _, _, _, place = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_DGRAM)[0]
                if family not in self._sockets:
                    self._sockets[family] = socket.socket(family, socket.SOCK_DGRAM)
                self._places[address] = self._sockets[family], place
            own, place = self._places[address]
            own.sendto(packet, place)
        except ConnectionRefusedError:
            return  # nobody listens yet
        except OSError as error:
            reason = error.strerror or error
            raise OutputError(f"cannot send to {address.host}:{address.port} ({reason}); check the address") from error
        self.sent += 1


def live_link_row(face: TrackedFace, at: float) -> LiveLinkRow:
    """Weights and angles of a face. at: seconds.

    Raises:
        ConfigError: the head model does not speak ARKit.
    """
    if face.arkit is None:
        raise ConfigError(f"head model '{face.head.name}' has no ARKit actions to send; use weights on OpenHead")
    eyes = eye_rotations(face.head, face.parameters.expression)
    angles = [*np.radians(face.head_pose), *(value for x, y, z in eyes for value in (y, -x, z))]
    return LiveLinkRow(at, np.array([face.arkit[name] for name in ARKIT_NAMES]), np.array(angles, float))


def vmc_frame(face: TrackedFace, at: float) -> bytes:
    """The bundle for a face: ARKit's 52 names, VRM's mouth shapes and blinks, and the bones of head and eyes."""
    row = live_link_row(face, at)
    weights = dict(zip(ARKIT_NAMES, row.weights.tolist(), strict=True))
    values = dict(weights)
    for name, preset in VRM_MOUTH.items():
        values[name] = _likeness(weights, EXPRESSIONS[preset])
    values["Blink_L"], values["Blink_R"] = weights["eyeBlinkLeft"], weights["eyeBlinkRight"]
    values["Blink"] = min(values["Blink_L"], values["Blink_R"])
    turns = {"Head": Rotation.from_matrix(face.camera.rotation)}
    eyes = eye_rotations(face.head, face.parameters.expression)
    turns |= {"LeftEye": Rotation.from_rotvec(eyes[0]), "RightEye": Rotation.from_rotvec(eyes[1])}
    return vmc_packet(at, values, {bone: unity_quaternion(turn.as_quat()) for bone, turn in turns.items()})


def _likeness(weights: dict[str, float], preset: dict[str, float]) -> float:
    """[0, 1]: how far the actions of a preset are there, by least squares of one factor."""
    found = sum(weights[name] * share for name, share in preset.items())
    return float(np.clip(found / sum(share * share for share in preset.values()), 0, 1))


def in_time(
    frames: Iterable[TrackedFrame],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[TrackedFrame]:
    """Frames of a clip at their own times, none before; late ones at once."""
    started: float | None = None
    for frame in frames:
        if started is None:
            started = clock() - frame.time
        early = frame.time - (clock() - started)
        if early > 0:
            sleep(early)
        yield frame
