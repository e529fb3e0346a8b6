"""`tokenface serve`: the web page and the HTTP API."""

from __future__ import annotations

from typing import Annotated

import typer


def serve(
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 is everybody's.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one.")] = 7860,
    weights: Annotated[
        str | None, typer.Option("--weights", "-w", help="Weights by name or path.", show_default=False)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    runtime: Annotated[str, typer.Option(help="auto: the fastest; torch, onnx or openvino.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, bf16 (torch, openvino), fp16, int8 (onnx, openvino).")] = "fp32",
    page: Annotated[bool, typer.Option(help="The page for people; without it the API alone, in less memory.")] = True,
    max_upload: Annotated[float, typer.Option(min=0.001, help="Megabytes of a photo.")] = 20,
    max_pixels: Annotated[int, typer.Option(min=1, help="Width × height of a photo.")] = 40_000_000,
    max_seconds: Annotated[float, typer.Option(min=1, help="From a request to its answer.")] = 30,
    max_queue: Annotated[int, typer.Option(min=1, help="Photos that wait; more are told to come back.")] = 16,
    max_video: Annotated[float, typer.Option(min=0.001, help="Megabytes of a clip.")] = 200,
    max_video_seconds: Annotated[float, typer.Option(min=1, help="Seconds of a clip that are looked at.")] = 60,
    allow_host: Annotated[
        list[str] | None,
        typer.Option(
            help="A name by which the server may be asked, such as a proxy's; repeatable.", show_default=False
        ),
    ] = None,
    proxy: Annotated[
        list[str] | None,
        typer.Option(
            help="Address of a proxy whose X-Forwarded-For is believed; repeatable.", show_default="this machine"
        ),
    ] = None,
) -> int:
    """Serve the page and the HTTP API (POST /v1/reconstruct; /docs describes it) until Ctrl-C."""
    from dataclasses import replace

    from tokenface.cli.needs import need, need_runtime

    need("fastapi", "uvicorn", *(("gradio",) if page else ()))
    need_runtime(runtime)

    from tokenface.app.limits import MEGABYTE, Limits
    from tokenface.app.server import ServerOptions
    from tokenface.app.server import serve as run
    from tokenface.cli.console import SUCCESS, out

    limits = Limits(
        upload_bytes=int(max_upload * MEGABYTE),
        video_bytes=int(max_video * MEGABYTE),
        pixels=max_pixels,
        seconds=max_seconds,
        queue=max_queue,
        video_seconds=max_video_seconds,
    )
    console = out()
    options = ServerOptions(host, port, weights, device, runtime, precision, page, limits, tuple(allow_host or ()))
    run(
        options if proxy is None else replace(options, proxies=tuple(proxy)),
        lambda address: console.print(f"{address}/   page\n{address}/docs   API" if page else f"{address}/docs   API"),
    )
    return SUCCESS
