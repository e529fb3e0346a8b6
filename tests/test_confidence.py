"""Calibrated confidence: figures against closed forms, the fit on predictions with known odds, its file, its use."""

from __future__ import annotations

import logging
import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch

pytest.importorskip("igl", reason="needs the 'evaluate' extra (libigl)")

from tokenface.core.fingerprint import fingerprint
from tokenface.data.synthetic import SyntheticFaces
from tokenface.errors import CheckpointError
from tokenface.evaluation.statistics import auroc, expected_calibration_error
from tokenface.geometry.crop import Crop
from tokenface.geometry.pinhole import FaceCamera
from tokenface.head.registry import load_head
from tokenface.images.loading import ImageItem
from tokenface.inference.calibration import (
    FEATURES,
    Calibration,
    CalibrationInput,
    calibration_path,
    find_calibration,
    read_calibration,
    save_calibration,
)
from tokenface.inference.checkpoint_facts import calibration_facts, model_facts
from tokenface.inference.confidence import ConfidenceFeatures
from tokenface.inference.face import Face, Origin
from tokenface.inference.people import same_person
from tokenface.parameters import COMPONENTS
from tokenface.training.calibration.fit import FOLDS, fit, hide
from tokenface.training.calibration.measure import figures
from tokenface.training.calibration.samples import KINDS, Samples, calibration_inputs, draw_samples
from tokenface.training.calibration.truth import ComponentErrors
from tokenface.weights import WEIGHTS, companion, file_hash, find_weights

TOKENS = 24


def made_up(count: int, seed: int) -> Samples:
    """Predictions whose odds of being right depend on one feature and one direction of the tokens."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, len(FEATURES)))
    tokens = random.normal(size=(count, TOKENS))
    odds = 1.5 * features[:, 0] + 2 * tokens[:, 3]
    right = random.random(count) < 1 / (1 + np.exp(-odds))
    errors = np.exp(0.5 * tokens[:, :6] + 0.3 * random.normal(size=(count, 6)))
    nme = np.where(right, 0.01, 0.1)
    return Samples(np.zeros(count, int), nme, errors, features, tokens)


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    return fit(made_up(3000, 0), "0123456789abcdef")


def test_calibration_error_is_the_mean_gap_between_stated_and_true():
    stated = np.array([0.9] * 10 + [0.1] * 10)
    assert expected_calibration_error(stated, np.array([1.0] * 9 + [0] + [1] + [0] * 9)) == pytest.approx(0)
    assert expected_calibration_error(stated, np.array([1.0] * 5 + [0] * 5 + [0] * 10)) == pytest.approx(0.25)
    assert expected_calibration_error(np.ones(4), np.array([1.0, 1, 1, 0])) == pytest.approx(0.25)


def test_auroc_counts_the_pairs_in_the_right_order():
    random = np.random.default_rng(0)
    good, bad = random.normal(1, 1, 40), np.round(random.normal(0, 1, 30), 1)
    pairs = np.sign(good[:, None] - bad).mean() / 2 + 0.5
    assert auroc(good, bad) == pytest.approx(pairs)
    assert math.isnan(auroc(good, np.array([])))


def test_a_fit_knows_the_odds_and_the_size_of_errors_on_new_answers(calibration):
    new = made_up(3000, 1)
    found = figures(calibration, new)
    assert found["expected calibration error"] < 0.03
    scores = calibration.scores(new.features, new.tokens)
    true = 1 / (1 + np.exp(-1.5 * new.features[:, 0] - 2 * new.tokens[:, 3]))
    assert np.abs(calibration.probability(scores) - true).mean() < 0.05
    for name, row in found["components"].items():
        assert row["mean expected"] == pytest.approx(row["mean error"], rel=0.06), name
        assert row["rank correlation"] > 0.75
    assert found["components"].keys() == set(COMPONENTS)


def test_a_fit_that_has_nothing_to_go_by_states_the_share():
    random, blind = np.random.default_rng(3), made_up(1000, 2)
    blind = replace(blind, features=random.normal(size=blind.features.shape), tokens=random.normal(size=(1000, TOKENS)))
    found, new = fit(blind, "x"), made_up(1000, 4)
    stated = found.probability(found.scores(random.normal(size=new.features.shape), random.normal(size=(1000, TOKENS))))
    assert stated.mean() == pytest.approx((blind.nme < 0.03).mean(), abs=0.04)
    assert stated.std() < 0.08  # cross-fitting: the probes' memory of their own samples is not trusted


def test_hidden_features_are_all_gone_together():
    features = np.ones((400, len(FEATURES)))
    hidden = hide(features, np.random.default_rng(0))
    assert (features == 1).all()
    apart = hidden[:, [FEATURES.index(n) for n in ("apart", "apart known", "apart²")]]
    assert set(apart.sum(1)) == {0.0, 3.0}
    assert 0.15 < (apart.sum(1) == 0).mean() < 0.35
    assert len(hidden) > FOLDS


def test_the_file_round_trips_and_belongs_to_its_weights(calibration, tmp_path, caplog):
    weights = tmp_path / "net.safetensors"
    weights.write_bytes(b"weights")
    calibration = replace(calibration, weights_hash=file_hash(weights))
    path = calibration_path(weights)
    assert path.name == "net.confidence.safetensors"
    assert find_calibration(weights, file_hash(weights)) is None
    save_calibration(path, calibration)
    first = path.read_bytes()
    again = find_calibration(weights, file_hash(weights))
    new = made_up(5, 3)
    np.testing.assert_allclose(
        again.scores(new.features, new.tokens), calibration.scores(new.features, new.tokens), atol=1e-3
    )
    save_calibration(path, calibration)
    assert path.read_bytes() == first
    with caplog.at_level(logging.WARNING, "tokenface"):
        assert find_calibration(weights, "f" * 16) is None
        assert "other weights" in caplog.text
        path.write_bytes(first[:300])
        assert find_calibration(weights, file_hash(weights)) is None
    with pytest.raises(CheckpointError, match="tokenface calibrate"):
        read_calibration(path)


def test_a_calibration_of_predictions_that_are_corrected_otherwise_is_left_out(calibration, tmp_path, caplog):
    """The weights are the same; what lies beside them, and changes the predictions, is not."""
    weights = tmp_path / "net.safetensors"
    shutil.copyfile(find_weights("tokenface-ti"), weights)
    known = file_hash(weights)
    save_calibration(calibration_path(weights), replace(calibration, weights_hash=known), calibration_facts(weights))
    facts = calibration_facts(weights)
    assert find_calibration(weights, known, facts) is not None
    assert set(facts) == {"weights", "head"}  # the calibration itself is none of them
    with caplog.at_level(logging.WARNING, "tokenface"):
        assert find_calibration(weights, known, {**facts, "correction": "abc"}) is None
    assert "made with another correction; make it again with 'tokenface calibrate" in caplog.text


def test_predictions_depend_on_weights_head_and_what_lies_beside(tmp_path):
    weights = tmp_path / "net.safetensors"
    shutil.copyfile(find_weights("tokenface-ti"), weights)
    facts = [model_facts(weights)]
    companion(weights, "confidence").write_bytes(b"1")
    facts.append(model_facts(weights))
    companion(weights, "confidence").write_bytes(b"2")
    facts.append(model_facts(weights))
    companion(weights, "centred.temporal").write_bytes(b"1")  # of clips alone
    assert model_facts(weights) == facts[-1]
    shutil.copyfile(find_weights("tokenface-ti-synthetic"), weights)
    facts.append(model_facts(weights))
    assert len({fingerprint(each) for each in facts}) == 4
    assert model_facts("tokenface-ti")["head"] == load_head().data.geometry_hash()


def test_confidence_is_the_probability_where_there_is_one_else_the_product(calibration):
    raw = ConfidenceFeatures(0.9, 0.8, 1.0, 1.0, 0.5)
    assert raw.confidence == pytest.approx(0.36)
    assert raw.expected_errors == {}
    calibrated = calibration.calibrated(raw, CalibrationInput(np.zeros(len(FEATURES)), np.zeros(TOKENS)))
    assert calibrated.confidence == calibrated.probability != raw.confidence
    assert set(calibrated.expected_errors) == set(COMPONENTS)
    assert min(calibrated.expected_errors.values()) > 0
    other_network = calibration.calibrated(raw, CalibrationInput(np.zeros(len(FEATURES)), np.zeros(TOKENS + 1)))
    assert other_network == raw


# --- on faces


@pytest.fixture(scope="module")
def head():
    return load_head()


def face_of(head, batch, row: int, **changes) -> Face:
    """The truth of a rendered picture as a prediction in a photo of 96 pixels, with some components replaced."""
    parameters = batch.parameters[row].replace(**changes)
    camera = FaceCamera(parameters.camera.double().numpy(), Crop((48.0, 48.0), 96.0), (96, 96))
    return Face(
        parameters, camera, np.array([0.0, 0, 96, 96]), ConfidenceFeatures(1, 1, 1, 1, 1), head,
        ImageItem("a", "a"), Origin("w", "h", "g"),
    )  # fmt: skip


def test_component_errors_are_zero_for_the_truth_and_known_for_known_offsets(head):
    batch = SyntheticFaces(head, 64).sample(2, 0)
    measure = ComponentErrors(head)
    np.testing.assert_allclose(measure(face_of(head, batch, 0), batch, 0), 0, atol=0.03)
    jaw = batch.parameters.jaw[0].clone() * 0
    batch.parameters.jaw[0] = jaw
    turned = measure(face_of(head, batch, 0, jaw=jaw + torch.tensor([math.radians(4), 0, 0])), batch, 0)
    assert turned[COMPONENTS.index("jaw")] == pytest.approx(4, abs=0.02)
    assert turned[COMPONENTS.index("shape")] == pytest.approx(0, abs=0.01)
    other = measure(face_of(head, batch, 0, shape=batch.parameters.shape[1]), batch, 0)
    skin = measure.face
    gap = 1000 * (batch.neutral[0, skin] - batch.neutral[1, skin]).norm(dim=-1).mean()
    assert 0.3 * gap < other[COMPONENTS.index("shape")] < gap  # alignment takes some of it away
    lit = measure(face_of(head, batch, 0, light=batch.parameters.light[0] * 2), batch, 0)
    assert lit[COMPONENTS.index("light")] > 20
    painted = measure(face_of(head, batch, 0, texture=batch.parameters.texture[0] + 1), batch, 0)
    assert painted[COMPONENTS.index("texture")] > 1


def test_the_json_of_a_face_keeps_its_evidence(head, calibration):
    batch = SyntheticFaces(head, 64).sample(1, 0)
    from tokenface.formats.parameters import plain
    from tokenface.inference.face_document import photo_document

    bare = face_of(head, batch, 0)
    calibrated = replace(
        bare,
        confidence_features=calibration.calibrated(
            bare.confidence_features, CalibrationInput(np.zeros(len(FEATURES)), np.zeros(TOKENS))
        ),
    )
    for face in (bare, calibrated):
        face = replace(face, origin=Origin("w", "h", head.data.geometry_hash()))
        document = plain(photo_document([face], "a"))
        again = Face.from_dict(document["faces"][0], document, head)
        assert again.confidence == pytest.approx(face.confidence)
        assert again.expected_errors == pytest.approx(face.expected_errors)
    assert document["faces"][0]["evidence"]["probability"] == pytest.approx(calibrated.confidence)


def test_same_person_trusts_the_probable_answer(head):
    batch = SyntheticFaces(head, 64).sample(2, 0)
    good = replace(
        face_of(head, batch, 0), confidence_features=replace(ConfidenceFeatures(1, 1, 1, 1, 1), probability=0.99)
    )
    bad = replace(
        face_of(head, batch, 1), confidence_features=replace(ConfidenceFeatures(1, 1, 1, 1, 1), probability=0.01)
    )
    pooled = same_person([good, bad])[0].parameters.shape
    assert (pooled - good.parameters.shape).norm() < 0.02 * (bad.parameters.shape - good.parameters.shape).norm()


def test_shipped_weights_have_their_own_calibration():
    for entry in WEIGHTS.values():
        if not entry.installed:
            pytest.skip(f"the weights '{entry.name}' are not in this installation")
        assert calibration_path(entry.path).is_file(), f"run 'tokenface calibrate {entry.name}'"
        assert read_calibration(calibration_path(entry.path)).weights_hash == file_hash(entry.path), (
            f"the weights changed; run 'tokenface calibrate {entry.name}'"
        )


def test_samples_are_repeatable_and_of_all_kinds_and_animals_rank_below_people():
    skimage = pytest.importorskip("skimage.data", reason="needs scikit-image for photos")
    import tokenface
    from tokenface.errors import ModelFileError

    model = tokenface.load(device="cpu")
    try:
        first = draw_samples(model, 25, 5)
    except ModelFileError as error:
        pytest.skip(f"the face detector's models are not here: {error}")
    again = draw_samples(model, 25, 5)
    np.testing.assert_array_equal(first.nme, again.nme)
    np.testing.assert_array_equal(first.features, again.features)
    assert len(set(first.kind)) >= 4
    assert np.isinf(first.nme[first.kind == KINDS.index("nobody")]).all()
    assert np.median(first.nme[first.kind == KINDS.index("found")]) < 0.05
    person = calibration_inputs(model, [skimage.astronaut()], None)[0][0][0]
    assert model.calibration is not None
    confident = model.reconstruct(skimage.astronaut())[0].confidence
    assert person.confidence != confident  # the recorder judges nothing
    for animal in (skimage.cat(), skimage.chelsea()):
        height, width = animal.shape[:2]
        box = [[width / 2 - height / 3, height / 6, width / 2 + height / 3, height * 5 / 6]]
        assert model.reconstruct(animal, boxes=box)[0].confidence < 0.2 < confident


def test_the_former_name_of_the_features_still_reads(head):
    face = face_of(head, SyntheticFaces(head, 64).sample(1, 0), 0)
    with pytest.warns(DeprecationWarning, match="confidence_features"):
        assert face.evidence is face.confidence_features
