"""Labels as solid bodies, lit from the viewer: rays through the volume, no graphics card, no browser."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from autoseg.core.types import LabelArray
from autoseg.data.geometry import Grid
from autoseg.display.colours import colour_of
from autoseg.display.raster import rgb, scale_bar, write
from autoseg.display.slices import orientation_of

TURN, TILT = 30.0, 20.0  # degrees: from the front, a little from the patient's left and above
SMOOTH = 0.7  # voxels: steps between voxels are not part of the body
SAMPLES = 2_500_000  # of one label along all rays: a tenth of a second
HALF = 0.5


def directions() -> np.ndarray:
    """Rows: what runs right, what runs down, and what runs away from the viewer; columns: left, posterior, superior."""
    turn, tilt = np.radians(TURN), np.radians(TILT)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    away = np.array([-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), -np.sin(tilt)])
    return np.stack([right, np.cross(away, right), away])


def draw_surfaces(labels: LabelArray, grid: Grid, *, size: int = 320, ignore: int | None = None) -> np.ndarray:
    """Every label of a volume as a body in its colour, (size, size, 4), the ground transparent."""
    labels = np.maximum(labels, 0)
    span = _span(labels, grid)
    nearest = np.full((size, size), np.inf)
    drawn = np.zeros((size, size, 4), np.uint8)
    for value in np.unique(labels[labels > 0]).tolist():
        if value == ignore:
            continue
        depth = _depth(labels == value, grid, span, size)
        front = depth < nearest
        light = _light(depth, span[1] / size)
        colour = np.array(rgb(colour_of(value, ignore)), np.float32)
        shaded = np.clip(colour * (0.35 + 0.65 * light[..., None]) + 60 * light[..., None] ** 16, 0, 255)
        drawn[front, :3], drawn[front, 3] = shaded[front].astype(np.uint8), 255
        nearest[front] = depth[front]
    return drawn


def _span(labels: LabelArray, grid: Grid) -> tuple[np.ndarray, float]:
    """Centre of everything labelled in the world, and the edge in mm of a square that holds it from any side."""
    found = ndimage.find_objects((labels > 0).astype(np.uint8))
    box = found[0] if found else tuple(slice(0, n) for n in labels.shape)
    corners = np.array(np.meshgrid(*((s.start, s.stop - 1) for s in box), indexing="ij")).reshape(3, -1).T
    world = np.array([grid.to_world(corner) for corner in corners])
    centre = world.mean(axis=0)
    return centre, 2.2 * float(np.linalg.norm(world - centre, axis=1).max() + max(grid.spacing))


def _depth(mask: np.ndarray, grid: Grid, span: tuple[np.ndarray, float], size: int) -> np.ndarray:
    """How far a ray from each pixel runs until it meets the body; infinite where it does not."""
    found = ndimage.find_objects(mask.astype(np.uint8))[0]
    grown = tuple(slice(max(s.start - 3, 0), s.stop + 3) for s in found)
    start = np.array([s.start for s in grown], float)
    body = ndimage.gaussian_filter(np.pad(mask[grown].astype(np.float32), 3), SMOOTH)
    steps = max(min(size, SAMPLES // 96**2), 32)
    coarse = min(size, int((SAMPLES / steps) ** 0.5))
    centre, edge = span
    line = (np.arange(coarse) + 0.5) / coarse - 0.5
    along = (np.arange(steps) + 0.5) / steps - 0.5
    right, down, away = directions()
    # the index of a voxel is a linear function of pixel and depth: one matrix, one offset
    to_index = np.linalg.inv(np.asarray(grid.direction) * np.asarray(grid.spacing))
    per_step = to_index @ np.stack([away * edge / steps, down * edge / coarse, right * edge / coarse], axis=1)
    corner = centre + edge * (along[0] * away + line[0] * down + line[0] * right)
    offset = to_index @ (corner - np.asarray(grid.origin)) - start + 3
    coordinates = per_step @ np.indices((steps, coarse, coarse), np.float32).reshape(3, -1) + offset[:, None]
    values = ndimage.map_coordinates(body, coordinates, order=1).reshape(steps, coarse, coarse)
    inside = values >= min(HALF, 0.8 * float(body.max()))
    hit = inside.any(axis=0)
    first = inside.argmax(axis=0)
    depth = np.where(hit, first * edge / steps, np.inf)
    return depth if coarse == size else _enlarged(depth, size)


def _enlarged(depth: np.ndarray, size: int) -> np.ndarray:
    """A depth map with more pixels; the rim stays sharp."""
    hit = np.isfinite(depth)
    where = ndimage.distance_transform_edt(~hit, return_distances=False, return_indices=True)
    filled = ndimage.zoom(depth[tuple(where)], size / len(depth), order=1)
    rim = ndimage.zoom(hit.astype(np.float32), size / len(depth), order=1) >= HALF
    return np.where(rim, filled, np.inf)


def _light(depth: np.ndarray, millimetres: float) -> np.ndarray:
    """How much a surface faces the viewer's upper left, 0 to 1."""
    hit = np.isfinite(depth)
    if not hit.any():
        return np.zeros_like(depth)
    where = ndimage.distance_transform_edt(~hit, return_distances=False, return_indices=True)
    smooth = ndimage.gaussian_filter(depth[tuple(where)], 2.0)
    slope_y, slope_x = (np.clip(s / millimetres, -6, 6) for s in np.gradient(smooth))
    towards = np.array([-0.35, -0.45, -0.82])  # right, down, away
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    light: np.ndarray = np.clip((-slope_x * -towards[0] + -slope_y * -towards[1] - towards[2]) / length, 0, 1)
    return light


def surface_png(labels: LabelArray, grid: Grid, *, size: int = 320, ignore: int | None = None) -> bytes:
    """The picture of `draw_surfaces` with a scale bar, and where left, front and head are."""
    import io

    from PIL import Image, ImageDraw

    picture = Image.fromarray(draw_surfaces(labels, grid, size=size, ignore=ignore))
    ground = Image.new("RGBA", picture.size, (24, 26, 30, 255))
    ground.alpha_composite(picture)
    canvas = ImageDraw.Draw(ground)
    edge = _span(np.maximum(labels, 0), grid)[1]
    scale_bar(canvas, size, longest=0.3 * edge, scale=size / edge, unit="mm")
    if orientation_of(grid):
        _compass(canvas, size)
    file = io.BytesIO()
    ground.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()


def _compass(canvas: object, size: int) -> None:
    """Three short lines towards left (L), front (A) and head (S), at the lower right."""
    right, down, _ = directions()
    x, y = size - 40.0, size - 38.0
    for letter, world in (("L", (1, 0, 0)), ("A", (0, -1, 0)), ("S", (0, 0, 1))):
        along, below = 24 * float(right @ world), 24 * float(down @ world)
        canvas.line((x, y, x + along, y + below), fill=(242, 242, 242), width=2)  # type: ignore[attr-defined]
        write(canvas, (x + 1.45 * along, y + 1.45 * below), letter, anchor="mm")
