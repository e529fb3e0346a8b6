"""Upload route of the page: files go to the visitor's own folder, undecoded."""

from __future__ import annotations

import asyncio
import re
import shutil
from typing import Any

from fastapi import APIRouter, HTTPException, Request
from starlette.datastructures import UploadFile

from tokenface.app.folder import WorkFolder
from tokenface.app.limits import Limits
from tokenface.app.page_gate import API, VISITOR
from tokenface.app.visitors import Visitor

FILES = 4
"""Files of one upload."""
NAME_LETTERS = 80


def upload_router(folder: WorkFolder, limits: Limits) -> APIRouter:
    """The route that the page's script sends files to; it answers with their paths, which only their owner may use."""
    router = APIRouter(include_in_schema=False)

    @router.post(f"{API}/upload")
    async def upload(request: Request) -> list[str]:
        visitor = request.scope[VISITOR]
        assert isinstance(visitor, Visitor)  # the gate lets nobody else in
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "multipart/form-data":
            raise HTTPException(415, "send multipart/form-data with the files in the field 'files'")
        async with request.form(max_files=FILES, max_fields=FILES, max_part_size=1024) as form:
            files = [file for file in form.getlist("files") if isinstance(file, UploadFile)]
            if not files:
                raise HTTPException(422, "the form has no file in the field 'files'")
            paths = [await asyncio.to_thread(_keep, visitor, file) for file in files]
        await asyncio.to_thread(folder.tidy, limits.keep_seconds, limits.disk_bytes)
        return paths

    return router


def as_uploaded(component: Any) -> Any:
    """A component of the page whose value is the path of the upload, as it is.

    gradio's own components decode pictures before our limits are asked, by whatever format and program.
    """
    component.preprocess = lambda payload: None if payload is None else payload.path
    return component


def _keep(visitor: Visitor, file: UploadFile) -> str:
    path = visitor.new() / safe_name(file.filename or "")
    with path.open("xb") as out:
        shutil.copyfileobj(file.file, out, 1 << 20)
    return str(path)


def safe_name(name: str) -> str:
    """The last part of a file name, without what a shell, a page or a file system might take for something else."""
    last = name.replace("\\", "/").rpartition("/")[2]
    clean = re.sub(r"[^\w.-]", "_", last).lstrip(".-")
    stem, dot, suffix = clean.rpartition(".")
    clean = f"{stem[: NAME_LETTERS - 10]}{dot}{suffix[:9]}" if stem else clean[:NAME_LETTERS]
    while len(clean.encode()) > 200:
        clean = clean[1:]
    return clean or "file"
