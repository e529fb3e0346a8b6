"""CUDA rasteriser in Triton: 8 × 8 tiles of bounding boxes, nearest triangle by an atomic minimum.

A tile is one work item, so large and small triangles load the machine evenly; `depth << 32 | triangle` in one
64-bit word makes the minimum both the depth test and the tie rule, whatever order the items run in.
The kernel also runs without a GPU in Triton's interpreter (`TRITON_INTERPRET=1`).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from tokenface.render.fixed_point import DEPTH_FRACTION_BITS, TriangleSetup, snap_vertices, triangle_setup
from tokenface.render.raster_torch import EMPTY, ids_from_keys

TILE = 8  # pixels on a side
ITEMS_PER_PROGRAM = 8


def triangle_ids(vertices: Tensor, faces: Tensor, height: int, width: int, cull_backfaces: bool) -> Tensor:
    """The nearest triangle at every pixel centre: [B, V, 3], [F, 3] → [B, H, W] int32, −1 where there is none."""
    setup = triangle_setup(snap_vertices(vertices, height, width), faces, height, width, cull_backfaces)
    keys = torch.full((vertices.shape[0] * height * width,), EMPTY, dtype=torch.int64, device=vertices.device)
    owner, tile = _work_items(setup)
    if len(owner):
        grid = (triton.cdiv(len(owner), ITEMS_PER_PROGRAM),)
        _rasterize_tiles[grid](
            keys,
            owner,
            tile,
            _table(setup),
            len(owner),
            faces.shape[0],
            height,
            width,
            FRACTION_BITS=DEPTH_FRACTION_BITS,
            TILE=TILE,
            ITEMS=ITEMS_PER_PROGRAM,
            COLUMNS=_COLUMNS,
        )
    return ids_from_keys(keys).view(-1, height, width)


_COLUMNS = 18


def _table(setup: TriangleSetup) -> Tensor:
    """[B·F, 18] int64: one row per triangle, so that a work item reads consecutive words."""
    columns = (
        *(setup.left, setup.top, setup.width, setup.height),
        *(*setup.edges, *setup.column_steps, *setup.row_steps),
        *(setup.depth, setup.depth_column, setup.depth_row, setup.depth_min, setup.depth_max),
    )
    return torch.stack(columns, dim=-1).view(-1, _COLUMNS)


def _work_items(setup: TriangleSetup) -> tuple[Tensor, Tensor]:
    """Tiles of all bounding boxes: owner [N] (image · F + triangle) and tile number within the box [N]."""
    tiles = (((setup.width + TILE - 1) // TILE) * ((setup.height + TILE - 1) // TILE)).view(-1)
    owner = torch.repeat_interleave(tiles)
    first = tiles.cumsum(0) - tiles
    return owner, torch.arange(len(owner), device=owner.device) - first[owner]


@triton.jit
def _rasterize_tiles(
    keys,
    owner_pointer,
    tile_pointer,
    table,
    item_count,
    triangles_per_image,
    height,
    width,
    FRACTION_BITS: tl.constexpr,
    TILE: tl.constexpr,
    ITEMS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    item = tl.program_id(0) * ITEMS + tl.arange(0, ITEMS)
    live = item < item_count
    owner = tl.load(owner_pointer + item, mask=live, other=0)
    tile = tl.load(tile_pointer + item, mask=live, other=0)
    row = table + owner * COLUMNS

    left, top = tl.load(row), tl.load(row + 1)
    box_width, box_height = tl.load(row + 2), tl.load(row + 3)
    tiles_across = tl.maximum((box_width + TILE - 1) // TILE, 1)
    pixel = tl.arange(0, TILE * TILE)
    i = ((tile % tiles_across) * TILE)[:, None] + (pixel % TILE)[None, :]
    j = ((tile // tiles_across) * TILE)[:, None] + (pixel // TILE)[None, :]
    inside = live[:, None] & (i < box_width[:, None]) & (j < box_height[:, None])
    for edge in tl.static_range(3):
        value = tl.load(row + 4 + edge)[:, None]
        value += tl.load(row + 7 + edge)[:, None] * i + tl.load(row + 10 + edge)[:, None] * j
        inside = inside & (value >= 0)

    depth = tl.load(row + 13)[:, None] + tl.load(row + 14)[:, None] * i + tl.load(row + 15)[:, None] * j
    depth = depth >> FRACTION_BITS
    depth = tl.minimum(tl.maximum(depth, tl.load(row + 16)[:, None]), tl.load(row + 17)[:, None])
    triangle = (owner % triangles_per_image)[:, None]
    image = (owner // triangles_per_image)[:, None]
    target = (image * height + top[:, None] + j) * width + left[:, None] + i
    tl.atomic_min(keys + target, (depth << 32) | triangle, mask=inside, sem="relaxed")
