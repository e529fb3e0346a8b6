"""Style of the hair on a photo: shells of many styles are drawn on the head, the ones that cover what is hair survive.

The shells are those of the synthetic generator (`data.scene.shell`). A photo says where hair begins, how thick it is at
the outline and how far it hangs; what it does not show (the back of the head) stays what goes with styles like it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor

from tokenface.data.draw import Draw
from tokenface.data.scene.anatomy import Anatomy, Placement
from tokenface.data.scene.hair import sample_hair
from tokenface.data.scene.parts import repeat_rows
from tokenface.data.scene.shell import Shell, ShellStyle
from tokenface.geometry.smoothstep import smoothstep
from tokenface.head.model import HeadModel
from tokenface.inference.face import Face
from tokenface.parsing.parser import Regions
from tokenface.parsing.regions import CLOTHES, HAIR, HAT, OBJECT
from tokenface.render.rasterizer import rasterize

FIRST, KEPT, CHILDREN, ROUNDS = 448, 24, 112, 6
"""Styles that are tried at first; how many have children, how many, and how often."""
BATCH = 64
LEAST_HAIR = 0.012
"""Of the crop's pixels; less is a shaved head."""
SURE = (0.2, 0.7)
"""Probability of hair below which a pixel counts as bare, and from which as hair."""
PLAIN = 0.3
"""What a metre of hanging hair costs, in overlap: what hardly shows is left out."""
CLOTHES_COUNT = 0.25
"""Weight of pixels of clothes: hair may fall behind the shoulders, which are not drawn."""
TURNED = 0.4
"""Radians of yaw from which the side that is turned away gets the other one's hairline."""
ROWS, HANGING_ROWS = 20, 14

_anatomies: WeakKeyDictionary[HeadModel, Anatomy] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class HairStyle:
    """shell: one row.  overlap: of the drawn hair with the photo's, intersection over union."""

    shell: ShellStyle
    overlap: float


def anatomy_of(head: HeadModel) -> Anatomy:
    """Measured once for each head model."""
    if head not in _anatomies:
        _anatomies[head] = Anatomy.of(head)
    return _anatomies[head]


def fit_hair(face: Face, regions: Regions, seed: int = 0) -> HairStyle | None:
    """The style that explains a photo's hair best; None where the photo shows none.

    Args:
        regions: of the photo that the face was found in (`parsing.parser.parse`).
    """
    if (hair_and_hat(regions)[0] > 0.5).mean() < LEAST_HAIR:
        return None
    sight = _Sight.of(face, regions)
    draw = Draw.seeded(seed, "cpu")
    styles = sample_hair(draw, FIRST, torch.full((FIRST,), 0.6)).shell
    worn = (styles.top > 0).nonzero()[:, 0]
    styles = repeat_rows(styles, worn)
    scores = sight.scores(styles) - PLAIN * styles.hang
    for turn in range(ROUNDS):
        kept = scores.argsort(descending=True)[:KEPT]
        parents, scores = repeat_rows(styles, kept), scores[kept]
        children = _children(draw, parents, 0.75**turn)
        styles = _joined(parents, children)
        scores = torch.cat([scores, sight.scores(children) - PLAIN * children.hang])
    winner = scores.argmax()
    best = repeat_rows(styles, winner[None])
    return HairStyle(_evened(best, face.camera.angles[0]), float(scores[winner] + PLAIN * best.hang[0]))


def hair_and_hat(regions: Regions) -> tuple[np.ndarray, np.ndarray]:
    """[P, P] probabilities. Where there is more hair than hat, nobody wears one: it is smooth hair that looks so."""
    hair, hat = regions.shares[HAIR], regions.shares[HAT]
    return (hair + hat, np.zeros_like(hat)) if hat.sum() < hair.sum() else (hair, hat)


@dataclass(frozen=True, eq=False)
class _Sight:
    """The head on the parsed crop. hair, counts: [P, P] share of hair, and how much each pixel says.
    depth: [P, P] of the head, inf where there is none."""

    face: Face
    place: Placement
    shell: Shell
    regions: Regions
    hair: Tensor
    counts: Tensor
    depth: Tensor

    @staticmethod
    def of(face: Face, regions: Regions) -> _Sight:
        shares = regions.shares
        size = shares.shape[-1]
        height, width = face.camera.photo_size
        places = regions.places()
        there = ((places > 0) & (places < [width, height])).all(-1)
        hair, hat = hair_and_hat(regions)
        unknown = hat + shares[OBJECT] + (1 - CLOTHES_COUNT) * shares[CLOTHES]
        counts = (1 - unknown).clip(0, 1) * there
        ndc = _ndc(face, regions, face.vertices[None])
        fragments = rasterize(torch.from_numpy(ndc), torch.from_numpy(np.array(face.faces, np.int64)), size, size)
        depth = torch.where(fragments.mask, fragments.depth, torch.inf)[0]
        return _Sight(
            face,
            placement(face.head, face.vertices),
            Shell(ROWS, HANGING_ROWS),
            regions,
            torch.from_numpy(smoothstep(hair, *SURE).astype(np.float32)),
            torch.from_numpy(counts.astype(np.float32)),
            depth,
        )

    def scores(self, styles: ShellStyle) -> Tensor:
        """[n] soft intersection over union of the drawn hair with the photo's."""
        found = []
        for rows in torch.arange(len(styles.top)).split(BATCH):
            part = repeat_rows(styles, rows)
            place = _repeated(self.place, len(rows))
            vertices = self.shell.shape(place, part).vertices
            ndc = torch.from_numpy(_ndc(self.face, self.regions, vertices.numpy()))
            size = self.hair.shape[-1]
            fragments = rasterize(ndc, self.shell.topology.faces, size, size)
            drawn = fragments.mask & (fragments.depth < self.depth)
            both = (drawn * self.hair * self.counts).sum((1, 2))
            either = (torch.maximum(drawn.float(), self.hair) * self.counts).sum((1, 2))
            found.append(both / either.clamp(min=1))
        return torch.cat(found)


def placement(head: HeadModel, vertices: np.ndarray) -> Placement:
    """One upright head. vertices: [V, 3] metres, head space."""
    batch = torch.from_numpy(np.asarray(vertices, np.float32))[None]
    return Placement.of(anatomy_of(head), batch, head.landmarks68(batch), torch.eye(3)[None])


def _repeated(place: Placement, count: int) -> Placement:
    rows = {
        name: getattr(place, name).expand(count, *getattr(place, name).shape[1:])
        for name in ("vertices", "landmarks", "scalp", "skull", "rotation")
    }
    return replace(place, **rows)


def _ndc(face: Face, regions: Regions, vertices: np.ndarray) -> np.ndarray:
    """[B, n, 3] head space → crop NDC with depth, float32."""
    flat = vertices.reshape(-1, 3)
    points = regions.crop.to_ndc(face.camera.project(flat))
    return np.column_stack([points, face.camera.depth(flat)]).astype(np.float32).reshape(vertices.shape)


def _children(draw: Draw, parents: ShellStyle, strength: float) -> ShellStyle:
    """Mixtures of two parents each, and what chance changes of them."""
    count = len(parents.top)
    first, second = (repeat_rows(parents, draw.index(CHILDREN, count=count)) for _ in range(2))
    values = {}
    for each in fields(ShellStyle):
        a, b = getattr(first, each.name), getattr(second, each.name)
        share = draw.uniform(CHILDREN).view(-1, *[1] * (a.dim() - 1))
        values[each.name] = torch.lerp(a, b, share)

    def scaled(name: str, spread: float) -> None:
        values[name] = values[name] * torch.exp(draw.normal(CHILDREN, std=spread * strength))

    rim = values["rim"]
    shift = draw.normal(CHILDREN, 1, 1, std=0.004 * strength) + draw.normal(*rim.shape, std=0.006 * strength)
    rim = rim + shift
    rim[:, :, 0] = rim[:, :, 0].mean(1, keepdim=True)
    rim[:, :, -1] = rim[:, :, -1].mean(1, keepdim=True)
    values["rim"] = rim
    for name, spread in (("top", 0.25), ("side", 0.25), ("back", 0.2), ("hang", 0.3)):
        scaled(name, spread)
    values["opening"] = values["opening"] + draw.normal(CHILDREN, std=0.1 * strength)
    values["flare"] = values["flare"] + draw.normal(CHILDREN, std=0.05 * strength)
    return ShellStyle(**values)


def _joined(first: ShellStyle, second: ShellStyle) -> ShellStyle:
    return ShellStyle(**{f.name: torch.cat([getattr(first, f.name), getattr(second, f.name)]) for f in fields(first)})


def _evened(style: ShellStyle, yaw: float) -> ShellStyle:
    """Of a turned head, the far side's hairline is the near one's in the mirror: nothing has measured it."""
    if abs(yaw) < TURNED:
        return style
    seen = 1 if yaw < 0 else 0
    return replace(style, rim=style.rim[:, [seen, seen]])
