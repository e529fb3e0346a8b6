"""Refinement of predicted faces to their photos: test-time augmentation, points, pixels, size."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Literal

import numpy as np
import torch

from tokenface.errors import ImageError
from tokenface.geometry.crop import extract
from tokenface.geometry.mesh_normals import mesh_normals
from tokenface.head.model import LEFT_EYE, RIGHT_EYE
from tokenface.images.focal import Focal, exif_focal, parse_focal
from tokenface.images.iris import IrisNetwork
from tokenface.inference.face import Face
from tokenface.inference.people import pool, same_person
from tokenface.inference.predictor import Predictor
from tokenface.inference.refinement import Change, Refinement, RefineOptions
from tokenface.parameters import FaceParameters
from tokenface.refinement.augmentation import ViewAveraging
from tokenface.refinement.landmarks import Deviations, MeshPoints, Observed, PhotoPose, fit_points
from tokenface.refinement.pixels import SIZE, FacePixels
from tokenface.refinement.size import size_from_irises, size_from_pupils
from tokenface.refinement.statistics import Statistics
from tokenface.refinement.view import Y_UP, View, camera_of, view_of

LEAST_FACING = 0.1
"""Cosine between a point's normal and the viewer under which the point counts as hidden."""
VIEWS_DEVIATION = 0.0008
"""Standard deviation of the mean over views, metres at the face, per point and coordinate."""
POSE = ("expression", "jaw", "camera")
"""What of a face changes from one picture of a person to the next, and points tell of."""
Kind = Literal["views", "mesh", "given"]
LOOSE = 1e3
"""Prior deviation, in units of the measured one, of the view where points are given: they know it better."""


class Refiner:
    """Prepared once for a model.

    Raises:
        HeadModelError: the head model has no face-mesh correspondence.
    """

    def __init__(self, predictor: Predictor):
        self.predictor, self.head = predictor, predictor.head
        self.points = MeshPoints(predictor.head)
        self.pivot = self.points.mean.mean(0)
        self.augmentation = ViewAveraging(predictor)

    @cached_property
    def statistics(self) -> Statistics:
        return Statistics.load()

    @cached_property
    def pixels(self) -> FacePixels:
        return FacePixels(self.head)

    @cached_property
    def irises(self) -> IrisNetwork:
        return IrisNetwork()

    @torch.no_grad()
    def __call__(
        self,
        faces: Sequence[Face],
        photos: Sequence[np.ndarray],
        options: RefineOptions | None = None,
        points: Sequence[np.ndarray | None] | None = None,
    ) -> list[Face]:
        """One person's faces, refined together: one shape, one albedo.

        Args:
            faces: as reconstructed.  photos: [H, W, 3] uint8, the photo of each.
            points: [468, 2] in each photo's pixels, NaN where unknown, in place of the face mesh's; see
                `RefineOptions.point_deviation`.
        Raises:
            ImageError: no faces, a focal length that is none, irises that cannot be measured.
        """
        options = options or RefineOptions()
        began = time.process_time()
        faces = [_at_model_size(face) for face in faces]
        started = same_person(faces) if len(faces) > 1 else faces
        if not started:
            raise ImageError("nothing to refine: no face")
        images = torch.cat([extract(photo, [face.crop], SIZE) for face, photo in zip(started, photos, strict=True)])
        focals = [_focal(face, options.focal) for face in started]
        before = [view_of(face.camera, self.pivot) for face in started]
        movable = set(options.components)
        exact = points is not None and options.point_deviation is not None

        shape = started[0].parameters.shape
        averaged = []
        if options.views > 1:
            averaged = [
                self.augmentation(photo, face.crop, options.views) for face, photo in zip(started, photos, strict=True)
            ]
            if "shape" in movable:
                weights = np.array([face.confidence for face in faces])
                shape = torch.from_numpy(pool(np.stack([seen.shape.numpy() for seen in averaged]), weights))
        parameters = _stacked([face.parameters.replace(shape=shape) for face in started])
        observed = []
        for i, (face, focal) in enumerate(zip(started, focals, strict=True)):
            if points is not None and points[i] is not None:
                observed.append(self._observed(face, points[i], "given" if exact else "mesh", focal, options))
            elif options.points == "mesh":
                observed.append(self._observed(face, face.observed468, "mesh", focal, options))
            elif options.points == "views" and averaged:
                observed.append(self._observed(face, averaged[i].points, "views", focal, options))
            else:
                observed.append(self._observed(face, None, "views", focal, options))
        parameters, observed = self._follow_points(parameters, observed, exact, movable)
        views = [photo.start.view for photo in observed]
        if options.steps:
            # the network's points show its orthographic camera: in perspective they would bend the shape
            held = {"shape"} if any(focals) and not exact else set()
            deviations = self._deviations(movable, shape_free=True)
            parameters, views = self.pixels.fit(parameters, observed, images, deviations, movable - held, options.steps)

        greys = zip(
            self.pixels.difference(_stacked([face.parameters for face in started]), before, images),
            self.pixels.difference(parameters, views, images),
            strict=True,
        )
        seconds = (time.process_time() - began) / len(started)
        refined = []
        for i, (face, view, grey, focal) in enumerate(zip(started, views, greys, focals, strict=True)):
            moved = (parameters.shape[i] - faces[i].parameters.shape).square().mean().sqrt()
            record = Refinement(
                points=self._point_change(faces[i], before[i], parameters[i], view, observed[i]),
                photometric=Change(float(grey[0]), float(grey[1])),
                shape_moved=float(moved),
                seconds=seconds,
                photos=len(started),
                focal=None if focal is None else focal.origin,
                distance=None if focal is None else view.distance,
            )
            refined.append(replace(self._placed(face, parameters[i], view), refined=record))
        return self._sized(refined, photos, options)

    @torch.no_grad()
    def keeping_points(
        self, face: Face, shape: torch.Tensor, texture: torch.Tensor
    ) -> tuple[FaceParameters, Change | None]:
        """The face under another shape [S] and albedo [A]: expression, jaw and camera move so that the visible ones of
        its 468 points stay where they are on the photo. Beside it the points' distance from there, with the shape
        changed and nothing else, and now (per cent, as in `Refinement.points`; None: no point can be seen)."""
        bare = replace(face, parameters=face.parameters.replace(shape=shape, texture=texture))
        observed = self._observed(face, face.landmarks468, "views", None, RefineOptions())
        parameters, fitted = self._follow_points(_stacked([bare.parameters]), [observed], False, set(POSE))
        view = fitted[0].start.view
        change = self._point_change(bare, observed.start.view, parameters[0], view, observed)
        return self._placed(face, parameters[0], view).parameters, change

    def _observed(
        self, face: Face, points: np.ndarray | None, kind: Kind, focal: Focal | None, options: RefineOptions
    ) -> Observed:
        """The points that count on one photo, and where the fit starts."""
        view = view_of(face.camera, self.pivot, None if focal is None else focal.pixels)
        yaw, pitch, roll = face.camera.angles
        cos, sin = np.cos(roll - face.crop.angle), np.sin(roll - face.crop.angle)
        turn, count, valid = np.array([[cos, -sin], [sin, cos]]), len(self.points), self.points.valid
        error_modes = np.zeros((0, count, 2))
        if kind == "mesh":
            error_modes = self.statistics.error_modes[:, valid] @ turn.T * view.scale
        numbers = face.parameters
        expression, jaw = numbers.expression.double().numpy(), numbers.jaw.double().numpy()
        start = PhotoPose(expression, jaw, view, np.zeros(len(error_modes)))
        if points is None:
            return Observed(np.zeros((count, 2)), np.full(count, np.inf), error_modes, start, turn)
        points = np.asarray(points, np.float64)[valid, :2]
        target, deviation = face.crop.to_ndc(points) * Y_UP, np.full(count, VIEWS_DEVIATION * view.scale)
        if kind == "mesh":
            target = target - self.statistics.expected(yaw, pitch)[valid] @ turn.T * view.scale
            deviation = self.statistics.deviation[valid] * view.scale
        elif kind == "given" and options.point_deviation is not None:
            deviation = np.full(count, options.point_deviation * 2 / face.crop.size)
        normals = mesh_normals(face.vertices, self.head.data.faces)[self.points.vertex] @ face.camera.rotation.T
        height, width = face.camera.photo_size
        seen = (normals[:, 2] > LEAST_FACING) & np.isfinite(points).all(1)
        with np.errstate(invalid="ignore"):
            seen &= ((points > 0) & (points < [width, height])).all(1)
        return Observed(np.nan_to_num(target), np.where(seen, deviation, np.inf), error_modes, start, turn)

    def _deviations(self, movable: set[str], shape_free: bool, view_free: bool = False) -> Deviations:
        known, sizes = self.statistics, self.head.sizes
        expression = known.expression
        if len(expression) != sizes.expression:  # another head model's: its typical error for all
            expression = np.full(sizes.expression, expression.mean())
        return Deviations(
            np.full(sizes.shape, float(known.shape[0])) * (shape_free and "shape" in movable),
            expression * ("expression" in movable),
            known.jaw * ("jaw" in movable),
            known.view * ("camera" in movable) * (LOOSE if view_free else 1.0),
        )

    def _follow_points(
        self, parameters: FaceParameters, observed: list[Observed], exact: bool, movable: set[str]
    ) -> tuple[FaceParameters, list[Observed]]:
        """The pose and expression of every photo by its points; the shape too if they are given, not measured."""
        by_points = set(POSE) | ({"shape"} if exact else set())
        fitted_by_points = movable & by_points
        if not fitted_by_points or not any(np.isfinite(photo.deviation).any() for photo in observed):
            return parameters, observed
        deviations = self._deviations(movable, shape_free=exact, view_free=exact)
        shape = parameters.shape[0].double().numpy()
        fitted = fit_points(self.points, shape, observed, deviations, self.head.expression_range)
        found = {
            "shape": np.repeat(fitted.shape[None], len(observed), axis=0),
            "expression": np.stack([pose.expression for pose in fitted.poses]),
            "jaw": np.stack([pose.jaw for pose in fitted.poses]),
        }
        moved = parameters.replace(
            **{name: torch.from_numpy(found[name]).float() for name in fitted_by_points if name in found}
        )
        return moved, [replace(photo, start=pose) for photo, pose in zip(observed, fitted.poses, strict=True)]

    def _point_change(
        self, face: Face, before: View, parameters: FaceParameters, view: View, photo: Observed
    ) -> Change | None:
        """Mean distance of the visible points from where they were seen, over the root of their box, per cent."""
        seen = np.isfinite(photo.deviation)
        if not seen.any():
            return None
        target = photo.target[seen]
        errors = []
        for numbers, camera in ((face.parameters, before), (parameters, view)):
            coefficients = torch.cat([numbers.shape, numbers.expression]).double().numpy()
            place = camera.project(self.points(coefficients, numbers.jaw.double().numpy())[seen])
            errors.append(100 * float(np.linalg.norm(place - target, axis=1).mean()) / _box(target))
        return Change(*errors)

    def _placed(self, face: Face, parameters: FaceParameters, view: View) -> Face:
        coefficients = torch.cat([parameters.shape, parameters.expression]).double().numpy()
        camera = camera_of(view, face.camera, self.points(coefficients, parameters.jaw.double().numpy()))
        vector = torch.from_numpy(camera.vector).float()
        # a float32 camera in the parameters is what files carry: both say the same
        camera = replace(camera, vector=vector.double().numpy())
        own = FaceParameters(**{name: value.clone() for name, value in parameters.replace(camera=vector).items()})
        return replace(face, parameters=own, camera=camera)

    def _sized(self, faces: list[Face], photos: Sequence[np.ndarray], options: RefineOptions) -> list[Face]:
        """The head's size, the same in all photos of a person."""
        shape = faces[0].parameters.shape
        if options.ipd is not None:
            size, origin = size_from_pupils(self.head, shape, options.ipd), "ipd"
        elif options.size == "iris":
            measured = [
                size_from_irises(face.camera, self._eyes(face), self.irises(photo, face.observed468))
                for face, photo in zip(faces, photos, strict=True)
                if face.observed468 is not None
            ]
            if not measured:
                raise ImageError("the irises need the face mesh's points, which no photo has; give --ipd")
            size, origin = float(np.median(measured)), "iris"
        else:
            return faces
        return [resized(face, size, origin) for face in faces]

    def _eyes(self, face: Face) -> np.ndarray:
        numbers = face.parameters[None]
        joints = self.head(numbers.shape, numbers.expression, numbers.jaw).joints[0]
        return joints[[LEFT_EYE, RIGHT_EYE]].double().numpy()


def resized(face: Face, size: float, origin: str) -> Face:
    """A refined face whose head is `size` times the model's, which looks the same on its photo."""
    assert face.refined is not None
    distance = None if face.refined.distance is None else face.refined.distance * size
    record = replace(face.refined, size=size, size_origin=origin, distance=distance)
    return replace(face, camera=face.camera.resized(size), refined=record)


def _at_model_size(face: Face) -> Face:
    """The face as if it had not been refined before: its head as large as the model's."""
    return replace(face, camera=face.camera.resized(1 / face.size), refined=None)


def _focal(face: Face, wanted: str) -> Focal | None:
    height, width = face.camera.photo_size
    if wanted == "none":
        return None
    if wanted == "exif":
        return exif_focal(face.item.source, width, height)
    return parse_focal(wanted, width, height)


def _stacked(parts: list[FaceParameters]) -> FaceParameters:
    return FaceParameters.cat([part[None] for part in parts])


def _box(points: np.ndarray) -> float:
    return float(np.sqrt(np.prod(np.ptp(points, axis=0))))
