"""Figures of the open benchmark: predictions beside the truth, worst cases, error curves, groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from tokenface.evaluation.figures import TILE, Column, grid
from tokenface.evaluation.open_methods import Predictions, as_photos
from tokenface.evaluation.results import figure_png
from tokenface.formats.mesh import png_bytes
from tokenface.geometry.camera import Camera
from tokenface.head.model import HeadModel
from tokenface.render.overlay import PhotoFace, mesh_over_photo, shaded_meshes

if TYPE_CHECKING:
    from tokenface.evaluation.open_figures import OpenReport

WORST = 6
FRONT, HALF = np.array([0.0, -0.012, 0.03]), 0.105
"""Middle and half width, metres, of what a picture of a head shows."""
TURN = 25.0
"""Degrees that neutral heads are turned by: noses and chins show."""


def open_pictures(report: OpenReport) -> dict[str, bytes]:
    """Name → PNG: "examples" (a row per condition) and "worst" of the best network, "curves" and "groups" of all."""
    networks = [row["method"] for row in report.document["OpenHead people"]["ranks"]]
    networks = [name for name in networks if report.predictions[name][0].parameters is not None]
    pictures = {"curves": _curves(report), "groups": _groups(report)}
    if networks:
        best = networks[0]
        errors = np.stack([e.neutral for e in report.errors[best]])  # [conditions, people]
        rows = [(c, c % errors.shape[1]) for c in range(len(report.sets))]
        pictures["examples"] = png_bytes(_sheet(report, best, rows, errors))
        order = np.argsort(-errors, axis=None, kind="stable")[:WORST]
        worst = [(int(c), int(p)) for c, p in zip(*np.unravel_index(order, errors.shape), strict=True)]
        pictures["worst"] = png_bytes(_sheet(report, best, worst, errors))
    return pictures


def _sheet(report: OpenReport, method: str, rows: Sequence[tuple[int, int]], errors: np.ndarray) -> np.ndarray:
    head = report.heads[method]
    own_head = report.heads["mean head"]
    tiles: list[list[np.ndarray | None]] = [[] for _ in range(4)]
    for condition, person in rows:
        pictures, prediction = report.sets[condition], report.predictions[method][condition]
        photo = _tile(as_photos(pictures.image[person : person + 1])[0])
        tiles[0].append(_labelled(photo, f"{pictures.condition.name}, {errors[condition, person]:.2f} mm"))
        tiles[1].append(_overlay(photo, prediction, person, head))
        tiles[2].append(_front(prediction.neutral[person], head))
        tiles[3].append(_front(pictures.neutral[person].numpy(), own_head))
    titles = ("picture, error of the neutral face", f"{method}: overlay", "its neutral face", "true neutral face")
    return grid([Column(title, column) for title, column in zip(titles, tiles, strict=True)])


def _tile(photo: np.ndarray) -> np.ndarray:
    import cv2

    return np.asarray(cv2.resize(photo, (TILE, TILE), interpolation=cv2.INTER_CUBIC))


def _labelled(photo: np.ndarray, text: str) -> np.ndarray:
    import cv2

    photo = photo.copy()
    photo[TILE - 24 :] = photo[TILE - 24 :] // 3
    cv2.putText(photo, text, (6, TILE - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (255, 255, 255), 1, cv2.LINE_AA)
    return photo


@torch.no_grad()
def _overlay(photo: np.ndarray, prediction: Predictions, person: int, head: HeadModel) -> np.ndarray:
    assert prediction.parameters is not None
    camera = Camera.from_vector(prediction.parameters.camera[person : person + 1])
    placed = camera.project(torch.from_numpy(prediction.posed[person : person + 1]).float())[0].numpy()
    return mesh_over_photo(photo, [PhotoFace(_pixels(placed), head.data.faces)])


def _front(vertices: np.ndarray, head: HeadModel) -> np.ndarray:
    cos, sin = np.cos(np.radians(TURN)), np.sin(np.radians(TURN))
    turned = (vertices - FRONT) @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]).T / HALF
    placed = np.stack([turned[:, 0], -turned[:, 1], -turned[:, 2]], axis=1)
    return shaded_meshes([PhotoFace(_pixels(placed), head.data.faces)], TILE, TILE)


def _pixels(ndc: np.ndarray) -> np.ndarray:
    placed = ndc * (TILE / 2)
    placed[:, :2] += TILE / 2
    return placed.astype(np.float32)


def _curves(report: OpenReport) -> bytes:
    """Share of the pictures whose neutral and posed error is below x, by method."""

    def draw(*axes) -> None:
        for axis, measure in zip(axes, ("neutral", "posed"), strict=True):
            for method, errors in report.errors.items():
                values = np.sort(np.concatenate([getattr(e, measure) for e in errors]))
                axis.plot(values, np.arange(1, len(values) + 1) / len(values) * 100, label=method)
            axis.set(xlabel=f"error of the {measure} face, mm", ylabel="pictures, %", ylim=(0, 100), xlim=(0, None))
            axis.grid(alpha=0.3)
        axes[0].legend()

    return figure_png(draw, 10.0, 3.8, columns=2)


def _groups(report: OpenReport) -> bytes:
    """Mean neutral error of every group, by method."""
    tables = report.document["OpenHead people"]["groups"]
    kinds = list(next(iter(tables.values())))

    def draw(*axes) -> None:
        for axis, kind in zip(axes, kinds, strict=True):
            names = [name for name in next(iter(tables.values()))[kind] if name != "largest ratio"]
            width = 0.8 / len(tables)
            for place, (method, table) in enumerate(tables.items()):
                at = np.arange(len(names)) + (place - (len(tables) - 1) / 2) * width
                axis.bar(at, [table[kind][name]["mean"] for name in names], width, label=method)
            short = [name.split(" (")[0] for name in names]
            axis.set_xticks(range(len(names)), short, rotation=35, ha="right", fontsize=8)
            axis.set_title(kind, fontsize=10)
        axes[0].set_ylabel("neutral error, mm")
        axes[0].legend(fontsize=7)

    return figure_png(draw, 2.6 * len(kinds), 3.8, columns=len(kinds))
