"""Exported heads as other programs see them: Khronos' validator, three.js in Chromium, Blender.

Each needs a program that is not a Python dependency, and skips without it:
TOKENFACE_GLTF_VALIDATOR and TOKENFACE_THREE name folders of the npm packages gltf-validator and three, TOKENFACE_BPY a
Python interpreter that has `bpy`. TOKENFACE_VIEWER_FILES (paths, separated as PATH is) adds files to the validator's
and Blender's, for example those of `tokenface track`; TOKENFACE_SCREENSHOTS keeps the pictures in a folder.
"""

from __future__ import annotations

import functools
import http.server
import io
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial.transform import Rotation
from test_formats import khronos_issues
from test_photo_texture import face_and_photo

from tokenface.formats.glb_animation import Animation, write_animated_glb
from tokenface.formats.mesh import split_seams
from tokenface.head.registry import load_head
from tokenface.inference.face import Face

FRAMES = 12
PICTURE = 480


@pytest.fixture(scope="module")
def face() -> Face:
    head = load_head("openhead")
    plain, _ = face_and_photo(head, 0.3)
    expression = torch.zeros(head.sizes.expression)
    for name, weight in (
        ("mouthSmileLeft", 0.8),
        ("mouthSmileRight", 0.7),
        ("browInnerUp", 0.5),
        ("eyeLookUpLeft", 0.4),
    ):
        expression[head.expression_names.index(name)] = weight
    shape = torch.randn(head.sizes.shape, generator=torch.Generator().manual_seed(0)) * 0.7
    parameters = plain.parameters.replace(shape=shape, expression=expression, jaw=torch.tensor([0.2, 0.0, 0.0]))
    return replace(plain, parameters=parameters)


@pytest.fixture(scope="module")
def files(face: Face, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("glb")
    _, photo = face_and_photo(face.head, 0.3)
    rig = face.rig(neutral=True)
    wave = np.sin(np.linspace(0, np.pi, FRAMES))
    weights = np.zeros((FRAMES, len(rig.morph_names)), np.float32)
    weights[:, rig.morph_names.index("mouthPucker")] = wave
    rotations = {
        joint: Rotation.from_rotvec(np.outer(wave, axis)).as_matrix()
        for joint, axis in (("neck", [0, 0.5, 0]), ("jaw", [0.3, 0, 0]), ("left_eye", [0, 0.2, 0]))
    }
    animation = Animation(np.arange(FRAMES) / 25, weights, rotations)
    files = {
        "face": face.save(folder / "face.glb"),
        "neutral": face.save(folder / "neutral.glb", neutral=True),
        "photo": face.save(folder / "photo.glb", texture=face.photo_texture(photo)),
        "animated": write_animated_glb(folder / "animated.glb", face.riggable_mesh(neutral=True), rig, animation),
    }
    more = [Path(text) for text in os.environ.get("TOKENFACE_VIEWER_FILES", "").split(os.pathsep) if text]
    return files | {str(path): path for path in more}


def test_khronos_validator_finds_no_error_in_any_export(files):
    for name, path in files.items():
        issues = khronos_issues(path)
        assert issues["numErrors"] == issues["numWarnings"] == 0, (name, issues["messages"])


# ---- Blender ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def blender(files) -> dict[str, dict]:
    python = os.environ.get("TOKENFACE_BPY")
    if not python:
        pytest.skip("TOKENFACE_BPY names no Python that has bpy (pip install bpy, in an environment of its own)")
    script = Path(__file__).with_name("blender_import.py")
    command = [python, str(script), *map(str, files.values())]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    (answer,) = [line.removeprefix("FOUND ") for line in lines if line.startswith("FOUND ")]
    by_path = json.loads(answer)
    return {name: by_path[str(path)] for name, path in files.items()}


def test_blender_finds_shape_keys_bones_and_texture(blender, face):
    names = ("Basis", *face.rig().morph_names)
    for name, found in blender.items():
        assert {"root", "neck", "jaw", "left_eye", "right_eye"} == set(found["bones"]), name
        assert found["uv_layers"] == 1
        assert found["images"], name
        assert found["jaw_moves"] > 0.01, name  # metres
        if name in ("face", "neutral", "photo", "animated"):
            assert tuple(found["keys"]) == names
    shown = blender["face"]["shown"]
    assert shown["mouthSmileLeft"] == pytest.approx(0.8, abs=1e-5)
    assert blender["neutral"]["shown"]["mouthSmileLeft"] == 0


def test_blender_shows_the_vertices_that_we_mean(blender, face):
    data = face.head.data
    skin = face.rig().skin_faces
    split = split_seams(data.faces[skin], data.uv, data.uv_faces[skin])
    wanted = face.vertices[split.source] @ _Z_UP.T
    found = np.array(blender["face"]["first"])
    assert len(found) > len(wanted)  # a round outline has more, behind the head model's own
    step = len(found) // 200
    found, wanted = found[: len(wanted) : step], wanted[::step]
    assert np.linalg.norm(found - wanted, axis=1).max() < 2e-4  # metres


def test_blender_plays_the_animation(blender):
    actions = blender["animated"]["actions"]
    assert sum(action["curves"] for action in actions.values()) >= 1 + 3 * 4
    assert max(action["keyframes"] for action in actions.values()) == FRAMES
    assert not blender["face"]["actions"]


_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
"""glTF's y-up axes to Blender's."""

# ---- three.js --------------------------------------------------------------------------------------------------------

PAGE = """<!doctype html><style>body{margin:0}</style>
<script type="importmap">{"imports": {"three": "/three/build/three.module.js"}}</script>
<script type="module">
import * as THREE from 'three';
import { GLTFLoader } from '/three/examples/jsm/loaders/GLTFLoader.js';
const renderer = new THREE.WebGLRenderer({ antialias: true, preserveDrawingBuffer: true });
renderer.setSize(SIZE, SIZE);
document.body.append(renderer.domElement);
const scene = new THREE.Scene();
scene.background = new THREE.Color(0x223344);
scene.add(new THREE.HemisphereLight(0xffffff, 0x665544, 2.5));
const sun = new THREE.DirectionalLight(0xffffff, 1.5);
sun.position.set(-1, 1, 2);
scene.add(sun);
const camera = new THREE.PerspectiveCamera(25, 1, 0.01, 10);
camera.position.set(0.12, 0.02, 0.85);
camera.lookAt(0, -0.01, 0);
let gltf, mesh, parts, mixer;
window.load = async (url) => {
  gltf = await new GLTFLoader().loadAsync(url);
  scene.add(gltf.scene);
  parts = [];
  gltf.scene.traverse((o) => { if (o.isSkinnedMesh) { parts.push(o); o.frustumCulled = false; } });
  mesh = parts.find((o) => o.name === 'face') ?? parts[0];
  mixer = new THREE.AnimationMixer(gltf.scene);
  return { names: Object.keys(mesh.morphTargetDictionary), weights: [...mesh.morphTargetInfluences],
    bones: mesh.skeleton.bones.map((b) => b.name),
    clips: gltf.animations.map((a) => [a.name, a.duration, a.tracks.length]),
    texture: [mesh.material.map.image.width, mesh.material.map.image.height] };
};
window.pose = (weights, jaw) => {
  for (const [name, value] of Object.entries(weights)) for (const o of parts)
    if (name in (o.morphTargetDictionary ?? {})) o.morphTargetInfluences[o.morphTargetDictionary[name]] = value;
  if (jaw !== null) mesh.skeleton.bones.find((b) => b.name === 'jaw').rotation.set(jaw, 0, 0);
};
window.play = (time) => { mixer.clipAction(gltf.animations[0]).play(); mixer.setTime(time); };
window.draw = () => renderer.render(scene, camera);
window.vertices = () => {
  scene.updateMatrixWorld(true);
  mesh.skeleton.update();
  const point = new THREE.Vector3(), found = [];
  for (let i = 0; i < mesh.geometry.attributes.position.count; i += 25) {
    mesh.getVertexPosition(i, point);
    found.push(point.toArray());
  }
  return found;
};
window.ready = true;
</script>""".replace("SIZE", str(PICTURE))


@pytest.fixture(scope="module")
def site(files, tmp_path_factory) -> Iterator[str]:
    """The page, three.js and the files on a port of this machine."""
    three = os.environ.get("TOKENFACE_THREE")
    if not three:
        pytest.skip("TOKENFACE_THREE names no folder of the npm package three")
    root = tmp_path_factory.mktemp("site")
    (root / "index.html").write_text(PAGE)
    (root / "three").symlink_to(Path(three).resolve())
    for name in ("face", "animated"):
        shutil.copyfile(files[name], root / f"{name}.glb")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()


@pytest.fixture
def page(site):
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    from test_serve_page import BROWSER, FLAGS, PATIENCE

    if BROWSER is None:
        pytest.skip("no Chromium; install Debian's package chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        page = browser.new_page(viewport={"width": PICTURE, "height": PICTURE})
        page.set_default_timeout(PATIENCE)
        page.goto(site)
        page.wait_for_function("window.ready")
        yield page
        browser.close()


def picture(page, name: str) -> np.ndarray:
    page.evaluate("draw()")
    data = page.screenshot()
    if folder := os.environ.get("TOKENFACE_SCREENSHOTS"):
        Path(folder, f"{name}.png").write_bytes(data)
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def test_three_js_shows_the_expression_and_moves_it(page, face):
    facts = page.evaluate("load('/face.glb')")
    rig = face.rig()
    assert tuple(facts["names"]) == rig.morph_names
    np.testing.assert_allclose(facts["weights"], rig.morph_weights, atol=1e-6)
    assert facts["bones"] == list(rig.joint_names)
    assert facts["texture"] == list(face.albedo.shape[1::-1])
    data = face.head.data
    skin = rig.skin_faces
    source = split_seams(data.faces[skin], data.uv, data.uv_faces[skin]).source[::25]
    off = page.evaluate("vertices()")[: len(source)] - face.vertices[source]
    assert np.linalg.norm(off, axis=1).max() < 5e-5  # metres
    as_is = picture(page, "three_face")
    page.evaluate("pose({mouthSmileLeft: 0, mouthSmileRight: 0, mouthFunnel: 1, eyeBlinkLeft: 0.8}, 0.4)")
    changed = rig.morph_weights.copy()
    for name, weight in (("mouthSmileLeft", 0), ("mouthSmileRight", 0), ("mouthFunnel", 1), ("eyeBlinkLeft", 0.8)):
        changed[rig.morph_names.index(name)] = weight
    rotations = rig.rotations.copy()
    rotations[2] = [0.4, 0, 0]
    wanted = replace(rig, morph_weights=changed, rotations=rotations).posed()
    assert np.linalg.norm(page.evaluate("vertices()")[: len(source)] - wanted[source], axis=1).max() < 5e-5
    opened = picture(page, "three_jaw_open")
    skin = (as_is[..., 0] > as_is[..., 2] + 10).mean()
    assert 0.1 < skin < 0.9  # a head, not all of the picture
    assert (np.abs(opened - as_is).max(-1) > 40).mean() > 0.004


def test_three_js_plays_the_animation(page, face):
    facts = page.evaluate("load('/animated.glb')")
    ((_, duration, tracks),) = facts["clips"]
    assert duration == pytest.approx((FRAMES - 1) / 25, abs=1e-5)
    assert tracks == 4 + 2  # morphs and three joints; lower teeth and tongue follow
    page.evaluate("play(0)")
    first = np.array(page.evaluate("vertices()"))
    start = picture(page, "three_animation_start")
    page.evaluate(f"play({(FRAMES - 1) / 50})")
    middle = np.array(page.evaluate("vertices()"))
    shown = picture(page, "three_animation_middle")
    assert np.linalg.norm(middle - first, axis=1).max() > 0.02  # metres
    assert (np.abs(shown - start).max(-1) > 40).mean() > 0.03
