"""Labels as solid bodies, lit from the viewer: rays through the volume, no graphics card, no browser."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from autoseg.core.types import LabelArray, Mask
from autoseg.data.geometry import Grid
from autoseg.display.colours import colour_of
from autoseg.display.raster import rgb, scale_bar, write
from autoseg.display.slices import orientation_of

TURN, TILT = 30.0, 20.0  # degrees: from the front, a little from the patient's left and above
SMOOTH = 0.7  # voxels: steps between voxels are not part of the body
SAMPLES = 2_500_000  # of one label along all rays: a tenth of a second
HALF = 0.5

Span = tuple[np.ndarray, float]  # centre and edge of what a picture holds, in mm
Place = tuple[slice, slice]  # rows and columns of a picture


def directions() -> np.ndarray:
    """Rows: what runs right, what runs down, and what runs away from the viewer; columns: left, posterior, superior."""
    turn, tilt = np.radians(TURN), np.radians(TILT)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    away = np.array([-np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), -np.sin(tilt)])
    return np.stack([right, np.cross(away, right), away])


def draw_surfaces(
    labels: LabelArray, grid: Grid, *, size: int = 320, ignore: int | None = None, span: Span | None = None
) -> np.ndarray:
    """Every label of a volume as a body in its colour, (size, size, 4), the ground transparent.

    `span` is what the picture holds, `span_of` these labels where it is not given.
    """
    span = span or span_of(labels, grid, ignore=ignore)
    nearest = np.full((size, size), np.inf)
    drawn = np.zeros((size, size, 4), np.uint8)
    for value, box in enumerate(ndimage.find_objects(np.maximum(labels, 0)), start=1):
        if box is None or value == ignore:
            continue
        place, depth = _depth(labels[box] == value, box, grid, span, size)
        front = depth < nearest[place]
        light = _light(depth, span[1] / size)
        colour = np.array(rgb(colour_of(value, ignore)), np.float32)
        shaded = np.clip(colour * (0.35 + 0.65 * light[..., None]) + 60 * light[..., None] ** 16, 0, 255)
        drawn[place][front, :3], drawn[place][front, 3] = shaded[front].astype(np.uint8), 255
        nearest[place][front] = depth[front]
    return drawn


def span_of(labels: LabelArray, grid: Grid, *, ignore: int | None = None) -> Span:
    """Centre of everything labelled in the world, and the edge in mm of a square that holds it from any side."""
    inside = (labels > 0) & (labels != (0 if ignore is None else ignore))
    found = ndimage.find_objects(inside.astype(np.uint8))
    box = found[0] if found else tuple(slice(0, n) for n in labels.shape)
    world = _corners(box, grid)
    centre = world.mean(axis=0)
    return centre, 2.2 * float(np.linalg.norm(world - centre, axis=1).max() + max(grid.spacing))


def _corners(box: Sequence[slice], grid: Grid) -> np.ndarray:
    """Where the eight corners of a box of voxels lie in the world."""
    corners = np.array(np.meshgrid(*((s.start, s.stop - 1) for s in box), indexing="ij")).reshape(3, -1).T
    return np.array([grid.to_world(corner) for corner in corners])


def _depth(mask: Mask, box: Sequence[slice], grid: Grid, span: Span, size: int) -> tuple[Place, np.ndarray]:
    """The part of the picture where a body may be seen, and how far behind the centre a ray meets it, or infinity.

    Rays run through the body's own box only, so that forty organs take no longer than one large one.
    """
    centre, edge = span
    turned = (_corners(tuple(slice(s.start - 2, s.stop + 2) for s in box), grid) - centre) @ directions().T
    low, high = turned.min(axis=0), turned.max(axis=0)  # right, down, away
    pixel = edge / size
    pitch = pixel * max(float(np.prod((high - low) / pixel) / SAMPLES) ** (1 / 3), 1.0)
    counts = np.ceil((high - low) / pitch).astype(int)
    body = ndimage.gaussian_filter(np.pad(mask.astype(np.float32), 3), SMOOTH)
    # the index of a voxel is a linear function of column, row and depth: one matrix, one offset
    to_index = np.linalg.inv(np.asarray(grid.direction) * np.asarray(grid.spacing))
    per_step = to_index @ directions().T * pitch
    corner = centre + (low + pitch / 2) @ directions()
    offset = to_index @ (corner - np.asarray(grid.origin)) - [s.start - 3 for s in box]
    steps = np.indices(counts[::-1], np.float32).reshape(3, -1)  # away, down, right
    values = ndimage.map_coordinates(body, per_step[:, ::-1] @ steps + offset[:, None], order=1)
    inside = values.reshape(counts[::-1]) >= min(HALF, 0.8 * float(body.max()))
    met = np.where(inside.any(axis=0), low[2] + pitch * inside.argmax(axis=0), np.inf)
    return _on_pixels(met, low[1::-1], pitch, edge, size)


def _on_pixels(met: np.ndarray, low: np.ndarray, pitch: float, edge: float, size: int) -> tuple[Place, np.ndarray]:
    """Depths at `pitch` mm from `low` (down, right) on the pixels of the picture; the rim stays sharp."""
    first = np.clip(np.floor((low / edge + 0.5) * size).astype(int), 0, size)
    last = np.clip(np.ceil(((low + pitch * np.array(met.shape)) / edge + 0.5) * size).astype(int), 0, size)
    place = (slice(first[0], last[0]), slice(first[1], last[1]))
    rows, columns = (
        (((np.arange(s.start, s.stop) + 0.5) / size - 0.5) * edge - at) / pitch - 0.5
        for s, at in zip(place, low, strict=True)
    )
    pixels = np.array(np.meshgrid(rows, columns, indexing="ij"))
    hit = np.isfinite(met)
    depth = ndimage.map_coordinates(_filled(met), pixels, order=1, mode="nearest")
    rim = ndimage.map_coordinates(hit.astype(np.float32), pixels, order=1) >= HALF
    return place, np.where(rim, depth, np.inf)


def _filled(depth: np.ndarray) -> np.ndarray:
    """The depth of the nearest ray that met something, where one did not."""
    where = ndimage.distance_transform_edt(~np.isfinite(depth), return_distances=False, return_indices=True)
    filled: np.ndarray = depth[tuple(where)]
    return filled


def _light(depth: np.ndarray, millimetres: float) -> np.ndarray:
    """How much a surface faces the viewer's upper left, 0 to 1."""
    hit = np.isfinite(depth)
    if not hit.any():
        return np.zeros_like(depth)
    smooth = ndimage.gaussian_filter(_filled(depth), 2.0)
    slope_y, slope_x = (np.clip(s / millimetres, -6, 6) for s in np.gradient(smooth))
    towards = np.array([-0.35, -0.45, -0.82])  # right, down, away
    length = np.sqrt(slope_x**2 + slope_y**2 + 1)
    light: np.ndarray = np.clip((-slope_x * -towards[0] + -slope_y * -towards[1] - towards[2]) / length, 0, 1)
    return light


def surface_png(labels: LabelArray, grid: Grid, span: Span, *, size: int = 320, ignore: int | None = None) -> bytes:
    """The picture of `draw_surfaces` with a scale bar, and where left, front and head are."""
    import io

    from PIL import Image, ImageDraw

    picture = Image.fromarray(draw_surfaces(labels, grid, size=size, ignore=ignore, span=span))
    ground = Image.new("RGBA", picture.size, (24, 26, 30, 255))
    ground.alpha_composite(picture)
    canvas = ImageDraw.Draw(ground)
    edge = span[1]
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
