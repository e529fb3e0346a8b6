"""The page in a real browser: a photo goes in, a head appears, sliders move it, files come out."""

from __future__ import annotations

import io
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pygltflib
import pytest
import skimage.data
import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright
from test_reconstruct_photo import needs_detector, needs_weights

from tokenface.app.editing import Edit, edited
from tokenface.app.folder import WorkFolder, work_folder
from tokenface.app.limits import Limits
from tokenface.app.presets import PRESETS
from tokenface.app.server import create_app
from tokenface.formats.mesh import rounded_mesh, split_seams
from tokenface.inference.round_head import round_head
from tokenface.model import Reconstructor

BROWSER = next((path for name in ("chromium", "google-chrome", "chrome") if (path := shutil.which(name))), None)
FLAGS = (
    *("--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run", "--disable-quic"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
PATIENCE = 120_000
"""Milliseconds, for machines that are busy."""
READY = "tokenface-viewer[ready]"

pytestmark = [
    needs_detector,
    needs_weights,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium; install Debian's package chromium"),
]


@pytest.fixture(scope="module")
def model() -> Reconstructor:
    return Reconstructor.load(device="cpu")


@pytest.fixture(scope="module")
def folder() -> Iterator[WorkFolder]:
    with work_folder() as made:
        yield made


@pytest.fixture(scope="module")
def address(model: Reconstructor, folder: WorkFolder) -> Iterator[str]:
    app = create_app(lambda: model, lambda: model, folder, Limits(seconds=100))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        thread.join(0.1)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def page(address: str) -> Iterator[Page]:
    """The page, whose requests and errors are watched: see `elsewhere` and `errors` in its `seen`."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        made = browser.new_page(viewport={"width": 1400, "height": 1000})
        made.set_default_timeout(PATIENCE)
        seen.clear()
        made.on("request", lambda request: seen.append(request.url) if outside(request.url, address) else None)
        made.on("pageerror", lambda error: seen.append(str(error)))
        made.on("console", lambda message: seen.append(message.text) if message.type == "error" else None)
        made.goto(address)
        yield made
        browser.close()


seen: list[str] = []
"""Requests to other places, errors of scripts, and what else the console calls an error."""


def outside(url: str, address: str) -> bool:
    return not url.startswith((address, "data:", "blob:"))


def astronaut(path: Path) -> Path:
    Image.fromarray(skimage.data.astronaut()).save(path)
    return path


def slide(page: Page, name: str, value: float) -> None:
    """Move a slider as a hand does: while it moves, and when it is let go."""
    slider = page.locator(f"#{name} input[type=range]")
    move = "(slider, value) => { slider.value = value; slider.dispatchEvent(new Event('input', {bubbles: true})); }"
    slider.evaluate(move, value)
    slider.dispatch_event("pointerup")


def picture(page: Page) -> np.ndarray:
    """[H, W, 3] float: what the viewer shows, without its button and note."""
    page.wait_for_function("document.querySelector('tokenface-viewer').note.textContent === ''")
    shot = page.locator("tokenface-viewer").screenshot()
    with Image.open(io.BytesIO(shot)) as image:
        pixels = np.asarray(image.convert("RGB"), np.float64)
    return pixels[60:]


def download(page: Page, label: str, path: Path) -> bytes:
    with page.expect_download() as waiting:
        page.get_by_role("link", name=label, exact=True).click()
    waiting.value.save_as(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def with_photo(page: Page, tmp_path_factory: pytest.TempPathFactory) -> Page:
    photo = astronaut(tmp_path_factory.mktemp("photo") / "astronaut.png")
    page.locator("#photo input[type=file]").set_input_files(photo)
    page.wait_for_selector(READY)
    return page


def test_a_head_appears_beside_its_overlay(with_photo: Page) -> None:
    shown = picture(with_photo)
    height, width, _ = shown.shape
    middle, corner = shown[height // 3 : height // 2, width // 2 - 60 : width // 2 + 60], shown[-80:-40, 20:60]
    assert corner.std() < 15  # the backdrop
    assert middle.std() > 20  # a face
    assert middle[..., 0].mean() > middle[..., 2].mean() + 10  # of a person's colour
    overlay = with_photo.locator("#overlay img")
    assert overlay.evaluate("image => image.decode().then(() => image.naturalWidth)") > 100


def test_sliders_move_the_head_and_the_downloads(with_photo: Page, model: Reconstructor, tmp_path: Path) -> None:
    before, overlay = picture(with_photo), with_photo.locator("#overlay img").get_attribute("src")
    slide(with_photo, "jawOpen", 1.0)
    with_photo.wait_for_function(
        "old => document.querySelector('#overlay img').getAttribute('src') !== old", arg=overlay
    )
    after = picture(with_photo)
    assert np.abs(after - before).max(axis=2).mean() > 1
    document = json.loads(download(with_photo, "JSON", tmp_path / "a.json"))
    assert document["faces"][0]["arkit"]["jawOpen"] == pytest.approx(1.0, abs=1e-3)
    head = pygltflib.GLTF2.load_from_bytes(download(with_photo, "GLB", tmp_path / "a.glb"))
    jaw = next(node for node in head.nodes if node.name == "jaw")
    assert jaw.rotation[0] == pytest.approx(np.sin(0.43 / 2), abs=2e-3)
    with_photo.locator("#reset").click()
    with_photo.wait_for_function("document.querySelector('#jawOpen input[type=number]').value < 0.9")
    assert any(np.abs(picture(with_photo) - before).mean() < 0.5 for _ in range(20))


def test_hair_is_put_on_and_taken_off(with_photo: Page, tmp_path: Path) -> None:
    before = picture(with_photo)
    with_photo.locator("#hair input").check()
    with_photo.wait_for_selector("tokenface-viewer[src*='hair=true'][ready]")
    worn = picture(with_photo)
    assert np.abs(worn - before).max(axis=2).mean() > 1
    head = pygltflib.GLTF2.load_from_bytes(download(with_photo, "GLB", tmp_path / "hair.glb"))
    assert "hair" in [mesh.name for mesh in head.meshes]
    with_photo.locator("#hair input").uncheck()
    with_photo.wait_for_selector("tokenface-viewer:not([src*='hair'])[ready]")
    assert any(np.abs(picture(with_photo) - before).mean() < 0.5 for _ in range(20))


def weight(page: Page, name: str) -> float:
    return float(page.locator(f"#{name} input[type=number]").input_value())


def unfold(page: Page, title: str, slider: str) -> None:
    """Sliders of a folded part are not on the page."""
    if not page.locator(f"#{slider}").count():
        page.get_by_role("button", name=title).click()
        page.wait_for_selector(f"#{slider}")


def test_both_sides_move_together_unless_they_shall_not(with_photo: Page) -> None:
    unfold(with_photo, "Mouth", "mouthSmileLeft")
    unfold(with_photo, "Eyes", "eyeLookInRight")
    slide(with_photo, "mouthSmileLeft", 0.8)
    with_photo.wait_for_function("document.querySelector('#mouthSmileRight input[type=number]').value == 0.8")
    slide(with_photo, "eyeLookInRight", 0.6)  # the other eye looks out
    with_photo.wait_for_function("document.querySelector('#eyeLookOutLeft input[type=number]').value == 0.6")
    with_photo.locator("#both input").uncheck()
    slide(with_photo, "mouthSmileLeft", 0.3)
    with_photo.wait_for_function("document.querySelector('tokenface-viewer').shown.arkit.mouthSmileLeft == 0.3")
    assert weight(with_photo, "mouthSmileRight") == 0.8
    with_photo.locator("#both input").check()
    with_photo.locator("#reset").click()
    with_photo.wait_for_function("document.querySelector('#mouthSmileRight input[type=number]').value < 0.79")


def test_a_button_sets_a_whole_expression(with_photo: Page, tmp_path: Path) -> None:
    unfold(with_photo, "Mouth", "mouthSmileLeft")
    overlay = with_photo.locator("#overlay img").get_attribute("src")
    with_photo.get_by_role("button", name="Smile", exact=True).click()
    with_photo.wait_for_function(
        "old => document.querySelector('#overlay img').getAttribute('src') !== old", arg=overlay
    )
    assert weight(with_photo, "mouthSmileLeft") == weight(with_photo, "mouthSmileRight") == 0.9
    assert weight(with_photo, "jawOpen") == 0
    document = json.loads(download(with_photo, "JSON", tmp_path / "a.json"))
    for name, value in document["faces"][0]["arkit"].items():
        assert value == pytest.approx(PRESETS["Smile"].get(name, 0.0), abs=2e-3), name
    with_photo.locator("#reset").click()
    with_photo.wait_for_function("document.querySelector('#mouthSmileRight input[type=number]').value != 0.9")


def test_the_turntable_turns_until_somebody_takes_hold(with_photo: Page) -> None:
    def moves() -> bool:
        before = picture(with_photo)
        return any(np.abs(picture(with_photo) - before).mean() > 1 for _ in range(20))

    with_photo.get_by_role("button", name="Turntable").click()
    assert moves()
    with_photo.locator("tokenface-viewer canvas").click()
    assert not moves()
    with_photo.get_by_role("button", name="Reset view").click()


def test_the_dark_side_of_a_lit_photo_keeps_the_skins_colour(with_photo: Page) -> None:
    with_photo.locator("tokenface-viewer").evaluate("viewer => viewer.canvas.focus()")
    for _ in range(14):
        with_photo.keyboard.press("ArrowRight")
    red, green, blue = np.moveaxis(picture(with_photo), 2, 0)
    assert (red > blue + 20).mean() > 0.1  # a head
    assert ((green > red + 8) & (green > blue + 8)).mean() < 1e-4
    with_photo.get_by_role("button", name="Reset view").click()


def test_on_a_phone_the_head_stays_in_sight_of_its_sliders(with_photo: Page) -> None:
    with_photo.set_viewport_size({"width": 390, "height": 844})
    slider = with_photo.locator("#jawOpen")
    slider.scroll_into_view_if_needed()
    with_photo.evaluate("scrollBy(0, 300)")
    head = with_photo.locator("tokenface-viewer").bounding_box()
    assert head is not None
    assert head["y"] >= -1
    assert 300 < head["height"] < 0.5 * 844
    assert head["width"] > 300
    assert with_photo.evaluate("document.documentElement.scrollWidth") <= 390
    with_photo.set_viewport_size({"width": 1400, "height": 1000})
    with_photo.evaluate("scrollTo(0, 0)")


def test_the_browser_moves_the_head_as_the_head_model_does(
    with_photo: Page, address: str, model: Reconstructor
) -> None:
    """Expression, jaw, eyes and blending are computed twice: in the viewer, live, and in what is downloaded."""
    face = model.reconstruct(skimage.data.astronaut())[0]
    weights = {"jawOpen": 0.7, "jawLeft": 0.4, "mouthSmileLeft": 0.9, "eyeBlinkRight": 1.0, "eyeLookUpLeft": 0.8}
    source = with_photo.locator("tokenface-viewer").get_attribute("src")
    script = """async ([source, weights, found]) => {
        const { readGlb } = await import("/viewer/glb.js"), { Head } = await import("/viewer/head.js");
        const head = new Head(readGlb(await (await fetch(source)).arrayBuffer()));
        head.pose(Object.fromEntries(Object.entries(weights).map(([name, weight]) => [name, weight - found[name]])));
        return [[...head.positions], [...head.normals]];
    }"""
    positions, normals = with_photo.evaluate(script, [source, weights, face.arkit])
    mesh = rounded_mesh(edited(face, Edit(arkit=weights)).textured_mesh(), round_head(face.head))
    source = split_seams(mesh.faces, mesh.uv, mesh.uv_faces).source
    away = np.linalg.norm(np.reshape(positions, (-1, 3)) - mesh.vertices[source], axis=1)
    assert away[source < len(face.vertices)].max() < 4e-6
    assert away.max() < 1e-3  # an edge's middle does not turn quite as its ends do
    cosines = (np.reshape(normals, (-1, 3)) * mesh.normals[source]).sum(axis=1)
    assert np.quantile(cosines, 0.01) > 0.99


def test_another_person_can_be_blended_in(with_photo: Page, tmp_path: Path) -> None:
    other = Image.fromarray(skimage.data.astronaut()[:, ::-1])
    other.save(tmp_path / "other.png")
    with_photo.get_by_role("button", name="Blend with another person").click()
    before = picture(with_photo)
    with_photo.locator("#partner input[type=file]").set_input_files(tmp_path / "other.png")
    with_photo.wait_for_selector(READY + "[partner]")
    slide(with_photo, "share", 1.0)
    assert np.abs(picture(with_photo) - before).mean() > 0.3


def test_a_photo_without_a_face_is_said_so(with_photo: Page, tmp_path: Path) -> None:
    Image.new("RGB", (200, 200), (90, 120, 90)).save(tmp_path / "grass.png")
    with_photo.locator("#photo").get_by_label("Remove Image").click()
    with_photo.wait_for_selector("#head-viewer .tokenface-empty")
    with_photo.locator("#photo input[type=file]").set_input_files(tmp_path / "grass.png")
    said = with_photo.locator("#head-viewer [role=alert]")
    said.get_by_text("no face found").wait_for()
    assert not with_photo.locator("#overlay img").count()
    with_photo.locator(".examples button").first.click()  # the next action takes it away
    with_photo.wait_for_selector(READY)
    assert not said.count()
    assert not with_photo.locator(".toast-body").count()


def test_a_photo_that_cannot_be_read_is_said_so_without_a_broken_picture(with_photo: Page, tmp_path: Path) -> None:
    (tmp_path / "words.png").write_bytes(b"no picture at all")
    with_photo.locator("#photo").get_by_label("Remove Image").click()
    with_photo.wait_for_selector("#head-viewer .tokenface-empty")
    with_photo.locator("#photo input[type=file]").set_input_files(tmp_path / "words.png")
    with_photo.locator("#head-viewer [role=alert]").wait_for()
    given = with_photo.locator("#given img").first
    given.wait_for(state="attached")
    given.wait_for(state="hidden")
    with_photo.locator(".examples button").first.click()
    with_photo.wait_for_selector(READY)
    with_photo.locator("#given img").first.wait_for(state="visible")


def test_a_clip_becomes_an_overlay_and_files(page: Page) -> None:
    page.get_by_role("tab", name="Video").click()
    page.locator("#track-example").click()
    page.locator("#track-note").get_by_text("with a face").wait_for()
    assert "36 frames, 36 with a face, 1 person" in page.locator("#track-note").inner_text()
    names = page.locator("#track-files").inner_text()
    assert "track" in names
    assert "person_00" in names


def test_an_expression_goes_to_another_head(page: Page) -> None:
    page.get_by_role("tab", name="Transfer").click()
    page.locator("#transfer-example").click()
    page.locator("#transfer-source").get_by_text("eileen").wait_for()
    page.locator("#transfer").click()
    page.wait_for_selector("#transfer-viewer " + READY)
    address = page.locator("#transfer-viewer tokenface-viewer").get_attribute("src")
    shown = page.request.get(f"{page.url}{address}").body()
    assert len(pygltflib.GLTF2.load_from_bytes(shown).meshes) == 1  # with its eyes: the viewer draws one mesh
    assert page.locator("#transferred img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 1000
    page.locator("#transfer-example").click()  # clears the last result
    page.locator("#transfer-viewer tokenface-viewer").wait_for(state="detached")
    page.locator("#transferred").wait_for(state="hidden")


def test_what_is_missing_is_said_until_it_is_there(page: Page) -> None:
    page.get_by_role("tab", name="Transfer").click()
    page.locator("#transfer-target").wait_for()
    for there in page.locator("#transfer-target").get_by_label("Remove Image").all():  # a former transfer's
        there.click()
    page.locator("#transfer").click()
    said = page.locator("#transfer-note [role=alert]")
    said.get_by_text("choose a source and a target first").wait_for()
    page.locator("#transfer-example").click()
    said.wait_for(state="detached")


def test_the_page_asks_nobody_else_and_keeps_uploads_in_its_folder(with_photo: Page, folder: WorkFolder) -> None:
    assert seen == []
    assert any(folder.uploads.rglob("*.png"))
