"""The Dockerfile and the Space: what they name exists; built and run where there is a Docker daemon."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from tokenface.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "Dockerfile", ROOT / "examples" / "space" / "Dockerfile")
IMAGE = "tokenface-test"


def has_docker() -> bool:
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "info"], capture_output=True, check=False).returncode == 0


def instructions(path: Path) -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", " ", path.read_text())
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]  # type: ignore[misc]


def test_what_the_image_copies_is_there_and_not_ignored() -> None:
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    for word, rest in instructions(FILES[0]):
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignore, source


@pytest.mark.parametrize("path", FILES, ids=["image", "space"])
def test_images_call_commands_and_extras_that_exist(path: Path) -> None:
    import tomllib

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    commands = {command.name for command in app.registered_commands} | {group.name for group in app.registered_groups}
    text = path.read_text()
    named = re.findall(r"\[((?:\w+,)*\w+)\]\"", text)
    assert named
    assert all(extra in extras for names in named for extra in names.split(","))
    called = [match for match in re.findall(r"tokenface (\w+)", text) if match != "reconstruct"]
    assert called
    assert set(called) <= commands
    starts = [rest for word, rest in instructions(path) if word == "CMD"]
    assert len(starts) == 1
    assert "serve" in starts[0]
    assert "0.0.0.0" in starts[0]
    users = [rest for word, rest in instructions(path) if word == "USER"]
    assert users
    assert users[-1] != "root"


def test_the_space_says_what_hugging_face_asks_for() -> None:
    _, facts, body = (ROOT / "examples" / "space" / "README.md").read_text().split("---\n", 2)
    found = yaml.safe_load(facts)
    assert found["sdk"] == "docker"
    ports = [rest for word, rest in instructions(FILES[1]) if word == "EXPOSE"]
    assert ports == [str(found["app_port"])]
    assert len(found["short_description"]) <= 60
    assert "hf upload" in body


@pytest.mark.slow
@pytest.mark.skipif(not has_docker(), reason="no Docker daemon on this machine")
def test_the_image_serves_and_reconstructs(tmp_path: Path) -> None:
    subprocess.run(["docker", "build", "-t", IMAGE, "."], cwd=ROOT, check=True)
    shutil.copyfile(ROOT / "src/tokenface/assets/eileen_collins.jpg", tmp_path / "photo.jpg")
    tmp_path.chmod(0o777)
    command = ["docker", "run", "--rm", "-v", f"{tmp_path}:/work", IMAGE, "reconstruct", "photo.jpg", "-o", "out"]
    subprocess.run(command, check=True)
    assert json.loads((tmp_path / "out/photo/parameters.json").read_text())["faces"]
    server = subprocess.run(
        ["docker", "run", "--rm", "-d", "-p", "127.0.0.1:0:7860", IMAGE], check=True, capture_output=True, text=True
    ).stdout.strip()
    try:
        port = subprocess.run(
            ["docker", "port", server, "7860"], check=True, capture_output=True, text=True
        ).stdout.rsplit(":", 1)[1]
        for _ in range(60):
            try:
                with urllib.request.urlopen(f"http://localhost:{port.strip()}/healthz", timeout=5) as answer:
                    assert answer.status == 200
                    break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail("the server did not come up")
    finally:
        subprocess.run(["docker", "stop", server], check=False, capture_output=True)
