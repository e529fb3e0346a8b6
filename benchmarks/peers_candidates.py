"""What `benchmarks.peers` compares: groups of pairs, made ready when their turn comes."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import timm
import torch

from benchmarks.bench_detector import portrait
from tokenface.head.model import HeadModel
from tokenface.head.registry import load_head

FLAME_VERTICES, FLAME_SHAPE, FLAME_EXPRESSION = 5023, 300, 100


@dataclass(frozen=True)
class Sizes:
    """How large everything is; `small` is for tests of the table, not for figures."""

    weights: str | None = None
    sim3dr: Path | None = None
    small: bool = False

    def __call__(self, whole: int, little: int) -> int:
        return little if self.small else whole


@dataclass(frozen=True)
class Pair:
    """Two candidates: a call of `ours` does `count` of what a call of `theirs` does `their_count` of."""

    what: str
    ours: Callable[[], object]
    theirs: Callable[[], object]
    aim: str = ""
    count: int = 1
    their_count: int = 1


@dataclass(frozen=True)
class Skipped:
    what: str
    reason: str
    aim: str = ""


Pairs = list[Pair | Skipped]


@contextmanager
def networks(sizes: Sizes) -> Iterator[Pairs]:
    """One face from photo to parameters and one crop through the network, beside the field's encoders."""
    import tokenface
    from tokenface.images import FaceDetector
    from tokenface.images.facemesh import FaceMesh, mesh_crop

    model, photo = tokenface.load(sizes.weights, device="cpu"), portrait()
    side = sizes(224, 64)
    crop = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    own = torch.nn.functional.interpolate(crop, (model.crop_size,) * 2, mode="bilinear")
    resnet, mobile = (timm.create_model(name).eval() for name in ("resnet50", "mobilenetv3_large_100"))
    mesh = FaceMesh()
    found = FaceDetector("blazeface").detect(photo)[0]
    assert found.landmarks468 is not None
    around = mesh_crop(found.landmarks468)

    def whole() -> object:
        return model.reconstruct(photo, max_faces=1)

    def ours() -> object:
        return model.predict(own)

    @torch.inference_mode()
    def by_resnet() -> object:
        return resnet(crop)

    @torch.inference_mode()
    def by_mobile() -> object:
        return mobile(crop)

    def by_mesh() -> object:
        return mesh.once(photo, around)

    yield [
        Pair("photo → parameters, detector and two passes / ResNet-50 alone, 224 px", whole, by_resnet, "≤ 0.5"),
        Pair(f"network, one crop of {model.crop_size} px / ResNet-50, 224 px", ours, by_resnet, "≤ 0.2"),
        Pair("network / MobileNetV3-large, 224 px (SMIRK's kind)", ours, by_mobile),
        Pair("network / 468-point mesh (LiteRT), 192 px", ours, by_mesh),
    ]


@contextmanager
def heads(sizes: Sizes) -> Iterator[Pairs]:
    """Decoding of a head of FLAME's size (random bases), batch 64."""
    batch = sizes(64, 2)
    head = flame_sized()
    generator = torch.Generator().manual_seed(0)
    shape = torch.randn(batch, FLAME_SHAPE, generator=generator)
    expression = torch.randn(batch, FLAME_EXPRESSION, generator=generator)
    jaw = 0.1 * torch.randn(batch, 3, generator=generator)
    both, flat = torch.cat([shape, expression], 1), head.basis.flatten(1)

    @torch.inference_mode()
    def ours() -> object:
        return head(shape, expression, jaw)

    @torch.inference_mode()
    def product() -> object:
        return both @ flat

    product_pair = Pair(f"head of FLAME's size, batch {batch} / one matrix product", ours, product, "≤ 1.5")
    label, aim = f"head of FLAME's size, batch {batch} / smplx's blend skinning", "≤ 0.5"
    try:
        from smplx.lbs import lbs
    except ImportError:
        yield [product_pair, Skipped(label, "smplx is not installed: pip install smplx", aim)]
        return
    data = head.data
    pose = torch.cat([torch.zeros(batch, 6), jaw, torch.zeros(batch, 6)], dim=1)
    directions = head.basis.permute(1, 2, 0).contiguous()
    corrections = head.pose_basis.flatten(1) if head.pose_basis is not None else torch.zeros(36, 3 * FLAME_VERTICES)
    regressor = torch.full((5, FLAME_VERTICES), 1 / FLAME_VERTICES)
    parents = torch.tensor([-1, 0, 1, 1, 1])
    template, weights = head.template[None].expand(batch, -1, -1), torch.from_numpy(data.skinning_weights)

    @torch.inference_mode()
    def theirs() -> object:
        return lbs(both, pose, template, directions, corrections, regressor, parents, weights.float())

    yield [product_pair, Pair(label, ours, theirs, aim)]


@contextmanager
def rasterisers(sizes: Sizes) -> Iterator[Pairs]:
    """A head with a colour at every vertex, drawn at 224² and 512²."""
    from tokenface.geometry.camera import Camera
    from tokenface.render import interpolate, rasterize

    head = load_head()
    vertices = head.template[None] - head.template.mean(0)
    camera = Camera(torch.tensor([6.5]), torch.tensor([[0.0, 0.3, 0.0]]), torch.zeros(1, 3))
    seen, colours = camera.project(vertices), torch.rand(1, head.vertex_count, 3)
    other, reason = sim3dr(sizes.sim3dr)
    pairs: Pairs = []
    for side in (sizes(224, 24), sizes(512, 48)):
        label, aim = f"rasteriser with colours, {side}² / Sim3DR", "≤ 0.2"
        if other is None:
            pairs.append(Skipped(label, reason, aim))
            continue

        def ours(side: int = side) -> object:
            return interpolate(rasterize(seen, head.faces, side, side), colours, head.faces)

        pixels = ((seen[0, :, :2] + 1) * (side / 2)).numpy()
        points = np.ascontiguousarray(np.concatenate([pixels, -seen[0, :, 2:].numpy() * side], 1), dtype=np.float32)
        triangles = np.ascontiguousarray(head.faces.numpy(), dtype=np.int32)
        shades = np.ascontiguousarray(colours[0].numpy(), dtype=np.float32)

        def theirs(side: int = side, points=points, triangles=triangles, shades=shades) -> object:
            return other(points, triangles, shades, bg=np.zeros((side, side, 3), np.uint8))

        pairs.append(Pair(label, ours, theirs, aim))
    yield pairs


def sim3dr(folder: Path | None) -> tuple[Callable[..., object] | None, str]:
    """Sim3DR's `rasterize`, or why it is not there."""
    if folder is not None:
        sys.path.append(str(folder))
    try:
        from Sim3DR import rasterize
    except ImportError as error:
        return None, f"Sim3DR is not there ({error}); build it in 3DDFA_V2 and give its folder with --sim3dr"
    return rasterize, ""


@contextmanager
def scans(sizes: Sizes) -> Iterator[Pairs]:
    """NoW's measurement of one prediction, beside the plain way and beside another library's tree."""
    from tokenface.evaluation.icp import Surface
    from tokenface.evaluation.scan_to_mesh import measure, scan_face
    from tokenface.geometry.landmarks import NOW7

    head = load_head()
    generator = torch.Generator().manual_seed(1)
    two = head(torch.randn(2, head.sizes.shape, generator=generator)).vertices
    seven = head.landmarks68(two)[:, list(NOW7)].numpy()
    points, predicted, faces = two[0].numpy()[:: sizes(1, 40)], two[1].numpy(), head.faces.numpy()
    scan = scan_face(points, seven[0])

    def ours() -> object:
        return measure(scan, Surface(predicted, faces), seven[1])

    def plain() -> object:
        return plain_measure(scan.points, predicted, faces, seven[1], seven[0])

    pairs: Pairs = [Pair("scan to mesh, aligned / every point at every step of BFGS, one tree", ours, plain)]
    label = "nearest points of the scan, tree included / trimesh"
    try:
        import rtree  # noqa: F401  (trimesh asks for it)
        import trimesh
    except ImportError as error:
        yield [*pairs, Skipped(label, f"{error}; pip install trimesh rtree")]
        return

    def tree() -> object:
        return Surface(predicted, faces).nearest(scan.points)

    def their_tree() -> object:
        mesh = trimesh.Trimesh(predicted, faces, process=False)
        return trimesh.proximity.closest_point(mesh, scan.points)

    yield [*pairs, Pair(label, tree, their_tree)]


def plain_measure(
    points: np.ndarray, vertices: np.ndarray, faces: np.ndarray, landmarks: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """The readable reference: seven-number pose by BFGS with differences, all points asked of one tree at each step.

    Args:
        points: [P, 3] of the scan.  landmarks, target: [7, 3] of mesh and scan.
    Returns:
        [P] distances, the scan's unit.
    """
    from scipy.optimize import minimize

    from tokenface.evaluation.icp import Surface
    from tokenface.geometry.similarity import procrustes

    surface, start = Surface(vertices, faces), procrustes(landmarks, target)
    centre, radius = points.mean(0), float(np.linalg.norm(points - points.mean(0), axis=1).max())

    def distances(x: np.ndarray) -> np.ndarray:
        pose = start.moved(centre, x[:3], x[3:6] * radius, float(np.exp(x[6])))
        return surface.nearest(pose.undo(points)).distances * pose.scale

    found = minimize(lambda x: float(np.square(distances(x) / radius).mean()), np.zeros(7), method="BFGS", tol=1e-7)
    return distances(found.x)


@contextmanager
def steps(sizes: Sizes) -> Iterator[Pairs]:
    """The hybrid training step (Eq. 1, backward) beside the network's own forward and backward pass."""
    from benchmarks.bench_training import configuration
    from tokenface.network.tokenface import TokenFace
    from tokenface.training.batches import Batches
    from tokenface.training.module import Prediction, TrainingModule
    from tokenface.training.objective import Objective
    from tokenface.training.people import rendered_people

    head, count = load_head(), sizes(8, 4)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        config = configuration("tiny", count, folder)
        if sizes.small:
            network = config.network.replace(backbone="vit_tiny_stem", image_size=48)
            data = dataclasses.replace(config.data, workers=0)
            paper = dataclasses.replace(config.paper, identity_encoder=None)
            config = dataclasses.replace(config, network=network, data=data, paper=paper)
        shards = rendered_people(folder, head, count, 2, config.network.image_size)
        (batch,), _ = Batches(config, head, [], folder / "ring", shards).draw(0, 0)
        module = TrainingModule(TokenFace(config.network, head.sizes)).train()
        objective, images = Objective(head, config, records=True), batch.images()

        def step() -> None:
            objective(Prediction.from_named(module(images)), batch)[0].backward()

        def alone() -> None:
            sum(value.square().mean() for value in module(images).values()).backward()

        label = f"hybrid step, {config.network.backbone}, batch {count} / network alone, both with gradients"
        yield [Pair(label, step, alone, "≤ 1.8")]


@contextmanager
def frames(sizes: Sizes) -> Iterator[Pairs]:
    """A frame of a followed face beside one pass of the image model over the same crop."""
    import tokenface
    from tokenface.video.clip import Frame
    from tokenface.video.pipeline import TOGETHER, Pipeline, PipelineOptions
    from tokenface.video.prediction import predict_views
    from tokenface.video.temporal_weights import choose_temporal

    model, photo = tokenface.load(sizes.weights, device="cpu"), portrait()[:480, :480]
    count = sizes(TOGETHER, 2)
    pipeline = Pipeline(model, model.detector, PipelineOptions(together=count), choose_temporal(model, "auto"))
    number = 0

    def push(image: np.ndarray) -> None:
        nonlocal number
        pipeline.push(Frame(number, number / 25, image))
        number += 1

    def tracked() -> None:
        for n in range(count):
            push(np.roll(photo, n // 2, axis=1))

    tracked()
    tracker = pipeline.tracker

    def looked() -> None:
        crop = tracker.people[tracker.active[0]].crop
        for n in range(count):
            predict_views(model, np.roll(photo, n // 2, axis=1), [crop])

    yield [Pair("video frame, followed / one pass of the image model", tracked, looked, "≤ 1.1", count, count)]


def flame_sized() -> HeadModel:
    """A head of FLAME's numbers: OpenHead's topology with more vertices, random bases and pose correctives."""
    rng, data = np.random.default_rng(0), load_head().data
    more = FLAME_VERTICES - len(data.template)

    def longer(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, array[:more]]).astype(np.float32)

    def basis(modes: int) -> np.ndarray:
        return rng.normal(scale=1e-3, size=(modes, FLAME_VERTICES, 3)).astype(np.float32)

    return HeadModel(
        dataclasses.replace(
            data,
            name="FLAME's size",
            template=longer(data.template),
            skinning_weights=longer(data.skinning_weights),
            shape_basis=basis(FLAME_SHAPE),
            expression_basis=basis(FLAME_EXPRESSION),
            expression_names=tuple(f"mode{n}" for n in range(FLAME_EXPRESSION)),
            expression_range=None,
            joint_basis=rng.normal(scale=1e-3, size=(FLAME_SHAPE + FLAME_EXPRESSION, 5, 3)).astype(np.float32),
            pose_basis=basis(36),
            eye_drive=None,
        )
    )


GROUPS: dict[str, Callable[[Sizes], AbstractContextManager[Pairs]]] = {
    "networks": networks,
    "heads": heads,
    "rasterisers": rasterisers,
    "scans": scans,
    "steps": steps,
    "frames": frames,
}
