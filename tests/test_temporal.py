"""The temporal transformer: what it starts as, what it never reads, its files, tracking, training."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import MarkDetector
from toy_head import toy_head_data
from video_stand_ins import FollowingNetwork, following_model, scene

from tokenface.errors import CheckpointError
from tokenface.evaluation.video_metrics import jitter, lag, lag_of_clips
from tokenface.geometry.crop import Crop
from tokenface.head.model import HeadModel
from tokenface.inference.face import Origin
from tokenface.model import Reconstructor
from tokenface.network.config import NetworkConfig
from tokenface.network.temporal import TemporalTransformer, crop_motion
from tokenface.network.temporal_checkpoint import load_temporal, read_temporal_metadata, save_temporal, temporal_path
from tokenface.network.tokenface import NetworkOutput, TokenFace
from tokenface.training.temporal.config import TemporalLosses
from tokenface.training.temporal.features import ClipFeatures, steadied
from tokenface.training.temporal.objective import TemporalObjective, to_frame
from tokenface.training.temporal.validation import Ratios, best_of
from tokenface.video.clip import Frame
from tokenface.video.pipeline import TOGETHER, Pipeline, PipelineOptions, run
from tokenface.video.prediction import crop_vector, predict_views
from tokenface.video.store import CHUNK_FRAMES
from tokenface.video.temporal_weights import choose_temporal
from tokenface.weights import file_hash, find_weights

WIDTH, TOKENS = 64, 6


def trained(mode: str = "centred", seed: int = 0) -> TemporalTransformer:
    """A module whose every weight does something, as after training."""
    torch.manual_seed(seed)
    module = TemporalTransformer(WIDTH, TOKENS, mode).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return module


def windows(count: int = 5, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 3, TOKENS, WIDTH, generator=generator)
    return tokens, torch.ones(count, 3, dtype=torch.bool), torch.randn(count, 3, 4, generator=generator) * 0.1


@pytest.mark.parametrize(("mode", "own", "lag"), [("centred", 1, 1), ("causal", 2, 0)])
def test_untrained_it_returns_frame_ts_own_tokens(mode: str, own: int, lag: int) -> None:
    module = TemporalTransformer(WIDTH, TOKENS, mode)
    tokens, present, motion = windows()
    assert torch.equal(module(tokens, present, motion), tokens[:, own])
    assert (module.lag, module.depth) == (lag, 3)


def test_trained_it_reads_all_three_frames_and_the_motion_of_their_crops() -> None:
    module, (tokens, present, motion) = trained(), windows()
    plain = module(tokens, present, motion)
    for place in range(3):
        other = tokens.clone()
        other[:, place] += torch.randn(TOKENS, WIDTH)
        assert not torch.allclose(module(other, present, motion), plain, atol=1e-4)
    assert not torch.allclose(module(tokens, present, motion + torch.tensor([0.0, 0, 0.5, 0])), plain, atol=1e-5)


def test_an_absent_neighbour_is_never_read() -> None:
    module, (tokens, present, motion) = trained(), windows()
    present[:, 2] = False
    plain = module(tokens, present, motion)
    tokens[:, 2], motion[:, 2] = math.nan, math.nan
    assert torch.equal(module(tokens, present, motion), plain)


def test_small_changes_are_averaged_and_large_ones_kept() -> None:
    module = TemporalTransformer(WIDTH, TOKENS)
    with torch.no_grad():
        module.blend += 0.3 / 25  # of each neighbour
    own = torch.randn(1, 1, TOKENS, WIDTH)
    step = torch.randn(1, 1, TOKENS, WIDTH)
    present, still = torch.ones(1, 3, dtype=torch.bool), torch.zeros(1, 3, 4)

    def share(size: float, doubt: float) -> torch.Tensor:
        """Of a neighbour's change that reaches frame t."""
        with torch.no_grad():
            module.doubt.fill_(doubt)
            return (module(torch.cat([own + size * step, own, own], 1), present, still) - own[:, 0]) / (
                size * step[:, 0]
            )

    torch.testing.assert_close(share(0.01, 1.0), torch.full((1, TOKENS, WIDTH), 0.3), atol=0.02, rtol=0)
    assert float(share(0.5, 1.0).abs().max()) < 1e-3
    torch.testing.assert_close(share(0.5, 0.0), torch.full((1, TOKENS, WIDTH), 0.3), atol=1e-3, rtol=0)


def test_crop_motion_is_what_the_crops_say() -> None:
    target, other = Crop((100.0, 80.0), 50.0, 0.3), Crop((104.0, 79.0), 60.0, -0.1)
    as_tensor = [torch.from_numpy(crop_vector(crop)) for crop in (other, target)]
    motion = crop_motion(*as_tensor) / 4
    np.testing.assert_allclose(motion[:2], target.to_ndc(np.array([other.centre]))[0], atol=1e-9)
    np.testing.assert_allclose(motion[2:], [math.log(60 / 50), -0.4], atol=1e-9)


def test_frame_pixels_of_many_crops_are_those_of_each_crop() -> None:
    crops = [Crop((100.0, 80.0), 50.0, 0.3), Crop((10.0, 20.0), 30.0, -1.1)]
    points = torch.randn(2, 7, 2, dtype=torch.float64)
    found = to_frame(points, torch.from_numpy(np.stack([crop_vector(crop) for crop in crops])))
    for i, crop in enumerate(crops):
        np.testing.assert_allclose(found[i], crop.to_photo(points[i].numpy()), atol=1e-9)


def test_files_keep_the_module_and_know_their_image_weights(tmp_path: Path) -> None:
    module, path = trained("causal"), temporal_path(tmp_path / "tokenface-x.safetensors", "causal")
    assert path.name == "tokenface-x.causal.temporal.safetensors"
    save_temporal(path, module, "abc", {"metrics": {"jitter_ratio": 0.5}})
    found = load_temporal(path, "abc", "causal")
    tokens, present, motion = windows()
    np.testing.assert_allclose(
        found(tokens, present, motion).detach(), module(tokens, present, motion).detach(), atol=2e-2
    )
    with pytest.raises(CheckpointError, match="other image weights"):
        load_temporal(path, "def")
    with pytest.raises(CheckpointError, match="expected a centred one"):
        load_temporal(path, "abc", "centred")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(CheckpointError, match="damaged"):
        load_temporal(path)
    with pytest.raises(CheckpointError, match="no temporal weights"):
        load_temporal(tmp_path / "none.safetensors")


class TokenMarks(TokenFace):
    """A real TokenFace whose camera follows the mark: its tokens and heads are random, its crops are good."""

    def __init__(self, head: HeadModel) -> None:
        config = NetworkConfig(backbone="vit_tiny_stem", image_size=32, landmark_uncertainty=False, camera_scale=0.0)
        super().__init__(config, head.sizes, seed=0)
        self.follower = FollowingNetwork(head)

    def forward_with_extras(self, images: torch.Tensor) -> NetworkOutput:
        found = super().forward_with_extras(images)
        camera = self.follower(images).camera
        return found._replace(parameters=found.parameters.replace(camera=camera))


@pytest.fixture(scope="module")
def token_model() -> Reconstructor:
    head = HeadModel(toy_head_data())
    return Reconstructor(
        TokenMarks(head), head, 32, Origin("stand-in", "0" * 16, head.data.geometry_hash()), "cpu", MarkDetector()
    )


def test_auto_takes_what_is_there_and_fits(
    token_model: Reconstructor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = copy.copy(token_model)
    model.path = tmp_path / "w.safetensors"
    assert choose_temporal(model, "auto") is None
    assert "come without a centred temporal transformer: each frame is predicted by itself" in caplog.text
    caplog.clear()
    assert choose_temporal(model, "off") is None
    assert not caplog.text
    with pytest.raises(CheckpointError, match="without a centred temporal"):
        choose_temporal(model, "centred")
    beside = temporal_path(model.path, "centred")
    save_temporal(beside, trained(), model.origin.weights_hash)
    found = choose_temporal(model, "auto")
    assert found is not None
    assert found.mode == "centred"
    other = following_model()  # gives no tokens, as exported networks
    other.path = model.path
    assert choose_temporal(other, "auto") is None
    assert not caplog.records
    save_temporal(beside, trained(), "of other weights")
    assert choose_temporal(model, "auto") is None
    assert "other image weights" in caplog.text
    with pytest.raises(CheckpointError, match="other image weights"):
        choose_temporal(model, "centred")


def test_temporal_weights_that_are_named_are_taken_or_refused(token_model: Reconstructor, tmp_path: Path) -> None:
    model, file = token_model, tmp_path / "mine.safetensors"
    save_temporal(file, trained("causal"), model.origin.weights_hash)
    found = choose_temporal(model, "auto", file)  # its own mode, also where centred would come first
    assert found is not None
    assert found.mode == "causal"
    with pytest.raises(CheckpointError, match="is a causal temporal transformer; expected a centred one"):
        choose_temporal(model, "centred", file)
    with pytest.raises(CheckpointError, match="--temporal off uses no temporal weights"):
        choose_temporal(model, "off", file)
    save_temporal(file, trained("causal"), "of other weights")
    with pytest.raises(CheckpointError, match="other image weights"):
        choose_temporal(model, "auto", file)


def test_the_shipped_modules_belong_to_the_shipped_weights() -> None:
    weights = find_weights("tokenface-ti")
    for mode in ("centred", "causal"):
        path = temporal_path(weights, mode)
        assert load_temporal(path, file_hash(weights), mode).mode == mode
        figures = read_temporal_metadata(path)["metrics"]
        assert figures["jitter_ratio"] <= 0.6
        assert max(figures["error_ratio"], figures["picture_error_ratio"]) <= 1.02


def tracked(model: Reconstructor, images, temporal: TemporalTransformer | None, together: int = 1):
    pipeline = Pipeline(model, model.detector, PipelineOptions(together=together), temporal)
    frames = (Frame(i, i / 30, image) for i, image in enumerate(images))
    return list(run(pipeline, frames))


def wide(mode: str = "centred", zero: bool = False) -> TemporalTransformer:
    torch.manual_seed(3)
    module = TemporalTransformer(192, 6, mode).eval()
    if not zero:
        torch.nn.init.normal_(module.out.weight, std=0.05)
    return module


def expressions(found) -> list[torch.Tensor | None]:
    return [frame.predictions[0].parameters.expression if frame.predictions else None for frame in found]


@pytest.mark.parametrize("mode", ["centred", "causal"])
def test_in_the_tracker_an_untrained_module_changes_nothing(token_model: Reconstructor, mode: str) -> None:
    images = [scene((50 + i, 40, 24), ground=(90 + 5 * i,) * 3) for i in range(8)]
    plain, steady = tracked(token_model, images, None), tracked(token_model, images, wide(mode, zero=True))
    assert [frame.index for frame in steady] == list(range(8))
    for a, b in zip(plain, steady, strict=True):
        torch.testing.assert_close(a.predictions[0].parameters.expression, b.predictions[0].parameters.expression)
        assert a.predictions[0].crop == b.predictions[0].crop


@pytest.mark.parametrize("together", [1, 4])
def test_in_the_tracker_windows_hold_the_right_frames(token_model: Reconstructor, together: int) -> None:
    """The same windows put together by hand from the clip's tokens."""
    images = [scene((50 + i, 40, 24), ground=(90 + 9 * i,) * 3) for i in range(6)]
    for mode in ("centred", "causal"):
        module = wide(mode)
        found = tracked(token_model, images, module, together)
        seen = tracked(token_model, images, None)
        crops = [frame.predictions[0].crop for frame in seen]
        tokens = torch.stack(
            [predict_views(token_model, image, [crop])[0].tokens for image, crop in zip(images, crops, strict=True)]
        )  # type: ignore[arg-type]
        vectors = torch.from_numpy(np.stack([crop_vector(crop) for crop in crops]))
        with torch.no_grad():
            mixed = steadied(module, tokens[None], vectors[None])[0]
            expected = token_model.decoded(mixed)
        for frame, one in zip(found, expected, strict=True):
            torch.testing.assert_close(frame.predictions[0].parameters.expression, one.expression, atol=1e-5, rtol=1e-4)


def test_chunks_end_where_groups_of_answers_end() -> None:
    assert CHUNK_FRAMES % TOGETHER == 0


@pytest.mark.parametrize("mode", ["centred", "causal"])
def test_a_restored_pipeline_goes_on_where_answers_came_together(token_model: Reconstructor, mode: str) -> None:
    images = [scene((50 + i, 40, 24), ground=(90 + 5 * i,) * 3) for i in range(11)]
    frames = [Frame(i, i / 30, image) for i, image in enumerate(images)]
    module, options = wide(mode), PipelineOptions(together=4)
    whole = list(run(Pipeline(token_model, token_model.detector, options, module), iter(frames)))
    first, second = (
        Pipeline(token_model, token_model.detector, options, module),
        Pipeline(token_model, token_model.detector, options, module),
    )
    before = []
    while not before:
        before = first.push(frames[first.pushed])
    second.restore(first.state())
    after = list(run(second, iter(frames[second.pushed :])))
    assert [frame.index for frame in before] == [0, 1, 2, 3]
    assert [frame.index for frame in (*before, *after)] == list(range(11))
    for a, b in zip(expressions(whole), expressions([*before, *after]), strict=True):
        torch.testing.assert_close(a, b, atol=0, rtol=0)


def test_a_row_of_a_block_is_the_whole_blocks_row() -> None:
    module, x = wide(), torch.randn(2, 18, 192)
    torch.testing.assert_close(module.blocks[0](x, rows=slice(6, 12)), module.blocks[0](x)[:, 6:12])


def test_nothing_is_mixed_over_a_cut_or_a_gap(token_model: Reconstructor) -> None:
    random = np.random.default_rng(0)
    room = random.integers(0, 255, (6, 8, 3)).repeat(20, 0).repeat(20, 1).astype(np.uint8)
    first = [scene((40 + i, 40, 30)) for i in range(4)]
    other = room.copy()
    other[60:90, 90:120] = scene((0, 0, 30))[:30, :30]
    module = wide()
    whole = expressions(tracked(token_model, first + [other] * 4, module))
    alone = expressions(tracked(token_model, first, module))
    for a, b in zip(whole[:4], alone, strict=True):
        torch.testing.assert_close(a, b)
    gap = expressions(tracked(token_model, [*first, scene(), *first], module))
    assert gap[4] is None
    for a, b in zip(gap[:4], alone, strict=True):
        torch.testing.assert_close(a, b)


def test_single_frames_are_clips_too(token_model: Reconstructor) -> None:
    found = tracked(token_model, [scene((50, 40, 24))], wide())
    assert len(found) == 1
    assert len(found[0].predictions) == 1


def test_causal_answers_do_not_depend_on_what_comes(token_model: Reconstructor) -> None:
    images = [scene((50 + i, 40, 24), ground=(90 + 9 * i,) * 3) for i in range(6)]
    module = wide("causal")
    short, long = tracked(token_model, images[:4], module), tracked(token_model, images, module)
    for a, b in zip(expressions(short), expressions(long)[:4], strict=True):
        torch.testing.assert_close(a, b)


def synthetic_features(network: TokenFace, head: HeadModel, clips: int = 3, frames: int = 8) -> ClipFeatures:
    """Still people under noise: the truth is what the heads say of a clip's mean tokens."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(clips, 1, 6, 192, generator=generator)
    tokens = mean + 0.3 * torch.randn(clips, frames, 6, 192, generator=generator)
    p = network.heads(mean[:, 0])[0]
    p = p.replace(expression=head.clamp_expression(p.expression)).detach()

    def held(value: torch.Tensor) -> torch.Tensor:
        return value[:, None].expand(-1, frames, *value.shape[1:]).clone()

    size = 200.0
    crops = torch.tensor([size / 2, size / 2, size, 0.0], dtype=torch.float64).expand(clips, frames, 4)
    from tokenface.geometry.camera import Camera

    camera = Camera.from_vector(p.camera)
    return ClipFeatures(
        tokens=tokens,
        crops=crops,
        shape=held(p.shape),
        expression=held(p.expression),
        jaw=held(p.jaw),
        rotation=held(camera.rotation_matrix()),
        scale=held(camera.scale),
        translation=held(camera.translation[:, :2]),
        distance=torch.full((clips, frames), 1e4),
        depth=torch.zeros(clips, frames),
        size=torch.full((clips,), size),
    )


@pytest.fixture(scope="module")
def rehearsal() -> tuple[TokenFace, HeadModel]:
    head = HeadModel(toy_head_data())
    network = TokenFace(NetworkConfig(backbone="vit_tiny_stem", image_size=32), head.sizes, seed=1)
    return network.eval().requires_grad_(False), head


def test_the_objective_is_zero_at_the_truth_and_not_beside_it(rehearsal) -> None:
    network, head = rehearsal
    clips = synthetic_features(network, head)
    objective = TemporalObjective(network, head, TemporalLosses())
    mean = clips.tokens.mean(dim=1, keepdim=True).expand_as(clips.tokens)
    still = objective.terms(mean, clips)
    assert all(float(still[name]) < 1e-5 for name in ("velocity", "acceleration", "identity", "appearance"))
    noisy = objective.terms(clips.tokens, clips)
    assert all(float(noisy[name]) > 1e-3 for name in ("vertices", "picture", "velocity", "acceleration"))
    vertices, places, _ = objective.geometry(clips.tokens, clips.crops)
    true_vertices, true_places = objective.truth(clips)
    assert vertices.shape == true_vertices.shape
    assert places.shape == true_places.shape
    exact = dataclasses.replace(clips, tokens=clips.tokens)
    assert float((places - true_places).abs().mean()) < 0.3 * float(exact.size.mean())


def test_a_few_steps_of_training_calm_noise_without_lag(rehearsal) -> None:
    network, head = rehearsal
    clips = synthetic_features(network, head, clips=12, frames=10)
    objective = TemporalObjective(network, head, TemporalLosses())
    torch.manual_seed(0)
    module = TemporalTransformer(192, 6)
    optimiser = torch.optim.AdamW(module.parameters(), 1e-3)
    for _ in range(25):
        total = torch.stack(list(objective.terms(steadied(module, clips.tokens, clips.crops), clips).values())).sum()
        optimiser.zero_grad()
        total.backward()
        optimiser.step()
    fresh = synthetic_features(network, head, clips=12, frames=10)
    with torch.no_grad():
        calm = objective.geometry(steadied(module.eval(), fresh.tokens, fresh.crops), fresh.crops)[1]
        plain = objective.geometry(fresh.tokens, fresh.crops)[1]
    assert jitter(calm.flatten(2)[0][:, None].numpy()) < 0.75 * jitter(plain.flatten(2)[0][:, None].numpy())


def test_jitter_and_lag_of_known_motions() -> None:
    times = np.arange(60) / 30
    path = np.stack([np.sin(5 * times), np.cos(7 * times), times], axis=1)[:, None].repeat(4, 1)
    assert jitter(times[:, None, None] * np.ones((1, 4, 3))) == pytest.approx(0, abs=1e-12)
    quadratic = (np.arange(20) ** 2)[:, None, None] * np.array([[[1.0, 0, 0]]])
    assert jitter(quadratic) == pytest.approx(2)
    assert lag(path, path) == pytest.approx(0, abs=0.05)
    assert lag(path[:-2], path[2:]) == pytest.approx(2, abs=0.05)  # what it shows now, was true two frames ago
    assert lag(path[3:], path[:-3]) == pytest.approx(-3, abs=0.05)
    noise = np.random.default_rng(0).normal(size=path.shape) * 0.05
    still = (noise, np.roll(noise, 1, axis=0) * 0.02)  # trembling over nothing says little
    assert lag_of_clips([(path[:-1], path[1:]), still]) == pytest.approx(1, abs=0.1)


def test_the_calmest_of_the_fair_is_chosen_and_a_hairs_breadth_decides_nothing():
    assert best_of([("a", Ratios(1.00, 0.9)), ("b", Ratios(1.02, 0.6)), ("c", Ratios(1.03, 0.4))], 1.02) == "b"
    assert best_of([("early", Ratios(1.019, 0.84)), ("late", Ratios(1.022, 0.58))], 1.02) == "late"
    assert best_of([("a", Ratios(1.10, 0.5)), ("b", Ratios(1.05, 0.7)), ("c", Ratios(1.055, 0.6))], 1.02) == "c"
