"""`tokenface live`: live face capture from a camera or clip for Unreal and VRM tools."""

from __future__ import annotations

from typing import Annotated

import typer

from tokenface.cli.console import err, out


def live(
    source: Annotated[str, typer.Argument(help="Number of a camera (0), or a clip, played at its own speed.")] = "0",
    udp: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT of a Live Link Face receiver (Unreal: 11111); more of them: again.", show_default=False
        ),
    ] = None,
    vmc: Annotated[
        list[str] | None,
        typer.Option(
            help="HOST:PORT of a VMC receiver over OSC (VRM tools: 39539); more of them: again.", show_default=False
        ),
    ] = None,
    subject: Annotated[str, typer.Option(help="Name that receivers list the face under.")] = "TokenFace",
    people: Annotated[int, typer.Option(min=1, help="At most so many faces.")] = 1,
    smooth: Annotated[str, typer.Option(help="none or one-euro.")] = "one-euro",
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    seconds: Annotated[float | None, typer.Option(help="Stop after so long.", show_default=False)] = None,
) -> int:
    """Send a face to Unreal (Live Link Face's protocol) and to VRM tools (VMC over OSC), frame by frame.

    Exit code: 0 done, 1 no face was seen.
    """
    from tokenface.cli.console import SOME_FAILED, SUCCESS
    from tokenface.cli.needs import need_clip, need_one_of
    from tokenface.errors import ConfigError
    from tokenface.video.broadcast import LIVE_LINK_PORT, VMC_PORT, Address, Broadcast, in_time

    need_one_of("--smooth", smooth, ("none", "one-euro"))
    if not udp and not vmc:
        raise ConfigError("nobody to send to; give --udp HOST:PORT (Unreal) or --vmc HOST:PORT (VRM tools)")
    unreal = [Address.of(text, LIVE_LINK_PORT) for text in udp or ()]
    performers = [Address.of(text, VMC_PORT) for text in vmc or ()]
    if not source.isdigit():
        need_clip(source)

    from tokenface.model import Reconstructor

    model = Reconstructor.load(weights, device)
    if source.isdigit():
        from tokenface.video.live import Camera
        from tokenface.video.live import live as live_frames

        camera = Camera.open(int(source))
        frames = live_frames(model, model.detector, camera, people=people, smooth=smooth, seconds=seconds)  # type: ignore[arg-type]
    else:
        frames = in_time(model.track(source, people=people, smooth=smooth, end=seconds))  # type: ignore[arg-type]
    seen = 0
    with Broadcast(unreal, performers, subject) as broadcast:
        for frame in frames:
            seen += bool(frame.faces)
            broadcast.send(frame)
            if frame.index % 30 == 0:
                err().print(f"{frame.time:7.1f} s  {len(frame.faces)} faces, {broadcast.sent} packets")
        out().print(f"{seen} frames with a face, {broadcast.sent} packets")
    return SUCCESS if seen else SOME_FAILED
