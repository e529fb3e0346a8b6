"""Live capture over a real socket: packets taken apart by their published layout, not by what made them."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

pytest.importorskip("av", reason="needs the extra 'video'")

from video_stand_ins import following_model, scene, write_clip

from tokenface import cli
from tokenface.cli.console import SUCCESS
from tokenface.errors import ConfigError
from tokenface.formats.live_link import COLUMNS, LiveLinkRow
from tokenface.formats.live_packets import live_link_packet, osc_bundle, osc_message, unity_quaternion
from tokenface.head.arkit import ARKIT_NAMES
from tokenface.model import Reconstructor
from tokenface.video.broadcast import Address, in_time
from tokenface.video.face import TrackedFrame

DEVICE = "0A1B2C3D-0000-4000-8000-00000000ABCD"


def taken_apart(packet: bytes) -> dict:
    """Live Link Face, version 6."""
    (version,) = struct.unpack_from("<i", packet, 0)
    device = packet[4:41].decode("ascii")
    (length,) = struct.unpack_from(">i", packet, 41)
    subject = packet[45 : 45 + length].decode("utf-8")
    frame, part, rate, denominator, count = struct.unpack_from(">ifiiB", packet, 45 + length)
    values = struct.unpack_from(f">{count}f", packet, 45 + length + 17)
    assert len(packet) == 45 + length + 17 + 4 * count
    names = COLUMNS[2:]
    return {
        **{"version": version, "device": device, "subject": subject, "frame": frame, "part": part, "rate": rate},
        **{"denominator": denominator, "values": dict(zip(names, values, strict=True))},
    }


def osc_text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(b"\0", at)
    return data[at:end].decode("utf-8"), at + (end - at) // 4 * 4 + 4


def osc_messages(data: bytes) -> list[tuple]:
    name, at = osc_text(data, 0)
    if name == "#bundle":
        at += 8
        found = []
        while at < len(data):
            (size,) = struct.unpack_from(">i", data, at)
            found += osc_messages(data[at + 4 : at + 4 + size])
            at += 4 + size
        return found
    tags, at = osc_text(data, at)
    values: list = []
    for tag in tags[1:]:
        if tag == "s":
            value, at = osc_text(data, at)
        else:
            (value,) = struct.unpack_from(f">{tag}", data, at)
            at += 4
        values.append(value)
    assert at == len(data)
    return [(name, *values)]


def test_a_live_link_packet_has_the_layout_that_unreal_reads() -> None:
    weights = np.linspace(0, 1, 52).astype(np.float32)
    angles = np.linspace(-0.4, 0.4, 9)
    found = taken_apart(live_link_packet(LiveLinkRow(2.51, weights, angles), 60.0, "Zoë", DEVICE))
    assert (found["version"], found["device"], found["subject"]) == (6, f"${DEVICE}", "Zoë")
    assert (found["frame"], found["rate"], found["denominator"]) == (150, 60, 1)
    assert found["part"] == pytest.approx(0.6, abs=1e-4)
    values = found["values"]
    assert len(values) == 61
    for number, name in enumerate(ARKIT_NAMES):
        assert values[name[0].upper() + name[1:]] == pytest.approx(weights[number], abs=1e-6)
    assert values["HeadYaw"] == pytest.approx(-0.4)
    assert values["RightEyeRoll"] == pytest.approx(0.4)


def test_osc_is_padded_to_four_bytes_as_version_1_0_says() -> None:
    assert osc_message("/oscillator/4/frequency", 440.0) == (
        b"/oscillator/4/frequency\0,f\0\0\x43\xdc\0\0"  # the specification's own example
    )
    assert osc_message("/foo", 1000, -1, "hello", 1.234)[:16] == b"/foo\0\0\0\0,iisf\0\0\0"
    assert osc_bundle([])[:16] == b"#bundle\0" + bytes(7) + b"\1"


def test_unitys_mirrored_axes_turn_the_mirrored_vector() -> None:
    turn = Rotation.from_rotvec([0.3, -0.5, 0.2])
    mirrored = Rotation.from_quat(unity_quaternion(turn.as_quat()))
    point = np.array([0.2, 0.7, -0.4])
    flip = np.array([-1, 1, 1])
    np.testing.assert_allclose(mirrored.apply(point * flip), turn.apply(point) * flip, atol=1e-12)


@pytest.fixture
def receiver():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind(("127.0.0.1", 0))
        own.settimeout(30)
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        yield own


def received(own: socket.socket, count: int) -> list[bytes]:
    return [own.recv(65535) for _ in range(count)]


def test_a_clip_reaches_unreal_and_vrm_tools(receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    """The whole way: command line, tracker, sockets on this machine, two protocols."""
    model = following_model()
    monkeypatch.setattr(Reconstructor, "load", staticmethod(lambda *_: model))
    frames = [scene((40 + 3 * number, 40, 24)) for number in range(4)]
    clip = write_clip(tmp_path / "a.mp4", frames)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.0.0.1", 0))
        other.settimeout(30)
        addresses = [f"127.0.0.1:{own.getsockname()[1]}" for own in (receiver, other)]
        code = cli.run(["live", str(clip), "--udp", addresses[0], "--vmc", addresses[1], "--subject", "Ada"])
        assert code == SUCCESS
        faces = list(model.track(clip, people=1, smooth="one-euro"))
        packets = [taken_apart(packet) for packet in received(receiver, len(faces))]
        bundles = [osc_messages(packet) for packet in received(other, len(faces))]
    assert "8 packets" in capsys.readouterr().out
    for packet, bundle, frame in zip(packets, bundles, faces, strict=True):
        face = frame.faces[0]
        assert packet["subject"] == "Ada"
        assert packet["frame"] == int(frame.time * 60 + 1e-6)
        for name, weight in face.arkit.items():
            assert packet["values"][name[0].upper() + name[1:]] == pytest.approx(weight, abs=1e-5)
        assert packet["values"]["HeadYaw"] == pytest.approx(np.radians(face.head_pose[0]), abs=1e-5)
        said = {message[1]: message[2] for message in bundle if message[0] == "/VMC/Ext/Blend/Val"}
        assert set(said) >= {*ARKIT_NAMES, "A", "I", "U", "E", "O", "Blink", "Blink_L", "Blink_R"}
        assert said["mouthSmileLeft"] == pytest.approx(face.arkit["mouthSmileLeft"], abs=1e-5)
        bones = {message[1]: message[2:] for message in bundle if message[0] == "/VMC/Ext/Bone/Pos"}
        assert set(bones) == {"Head", "LeftEye", "RightEye"}
        assert np.linalg.norm(bones["Head"][3:]) == pytest.approx(1, abs=1e-5)
        assert bundle[-1] == ("/VMC/Ext/Blend/Apply",)


def test_frames_of_a_clip_leave_at_their_own_times() -> None:
    now = [100.0]
    waits: list[float] = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        now[0] += seconds

    picture = np.zeros((2, 2, 3), np.uint8)
    frames = (TrackedFrame(index, 5 + index / 4, picture, []) for index in range(4))
    left = []
    for frame in in_time(frames, lambda: now[0], sleep):
        left.append((frame.index, now[0]))
        now[0] += 0.05 if frame.index else 0.6  # the first takes long: the next two leave late, at once
    assert [index for index, _ in left] == [0, 1, 2, 3]
    np.testing.assert_allclose([at for _, at in left], [100.0, 100.6, 100.65, 100.75], atol=1e-9)
    np.testing.assert_allclose(waits, [0.05], atol=1e-9)


@pytest.mark.parametrize("text", ["", ":11111", "host:0", "host:70000", "host:x"])
def test_addresses_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="expected HOST:PORT"):
        Address.of(text, 11111)


def test_addresses_have_a_usual_port() -> None:
    assert Address.of("studio", 11111) == Address("studio", 11111)
    assert Address.of("[::1]:9", 11111) == Address("::1", 9)
    assert Address.of("[::1]", 39539) == Address("::1", 39539)


def test_nobody_to_send_to_is_said_before_anything_is_loaded(capsys) -> None:
    assert cli.run(["live", "0"]) != SUCCESS
    assert "--udp HOST:PORT" in capsys.readouterr().err
