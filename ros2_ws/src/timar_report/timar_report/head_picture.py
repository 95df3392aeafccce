"""Draws a robot's head from the front for given joint positions, small and without a graphics card."""

from __future__ import annotations

import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import trimesh
from PIL import Image, ImageDraw
from timar_description.urdf import RobotModel, VisualShape, read_drawable_urdf

Floats = npt.NDArray[np.float64]

SIZE_PX = (150, 180)
OVERSAMPLING = 2
TURN_RAD = 0.35
"""How far the onlooker stands to the head's left."""
RAISED_RAD = 0.06
LIGHT = np.array([0.8, 0.35, 0.5])
BACKGROUND_RGB = (245, 245, 242)


class HeadPainter:
    """Paint one robot in any pose, all pictures at one scale.

    Args:
        urdf: Its description.

    Raises:
        FileNotFoundError: It, or a mesh of it, is not there.
        ValueError: It cannot be drawn.
    """

    def __init__(self, urdf: Path) -> None:
        self._body: RobotModel = read_drawable_urdf(urdf)
        self._meshes = [_mesh(shape) for shape in self._body.shapes]
        corners = np.concatenate([vertices for vertices, _ in self._placed({})])
        seen = corners @ _camera().T
        low, high = seen.min(axis=0), seen.max(axis=0)
        self._middle = (low + high) / 2
        # A head that turns or nods needs some room.
        self._scale = OVERSAMPLING * min(
            SIZE_PX[0] / (1.25 * (high[0] - low[0])), SIZE_PX[1] / (1.2 * (high[1] - low[1]))
        )

    def png(self, positions_rad: Mapping[str, float]) -> bytes:
        """Return a picture as PNG; joints left out stand at zero."""
        camera, light = _camera(), LIGHT / np.linalg.norm(LIGHT)
        width, height = SIZE_PX[0] * OVERSAMPLING, SIZE_PX[1] * OVERSAMPLING
        places, colors = [], []
        for shape, (vertices, faces) in zip(self._body.shapes, self._placed(positions_rad), strict=True):
            corners = vertices[faces]
            normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
            normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
            faces_us = normals @ camera[2] > 0
            brightness = 0.55 + 0.45 * np.maximum(normals @ light, 0.0)
            places.append(((corners @ camera.T - self._middle) * self._scale)[faces_us])
            colors.append(np.clip(255 * np.outer(brightness, shape.color_rgb), 0, 255).astype(int)[faces_us])
        seen, color = np.concatenate(places), np.concatenate(colors)
        points = np.stack([width / 2 + seen[..., 0], height / 2 - seen[..., 1]], axis=-1).reshape(-1, 6)
        from_behind = np.argsort(seen[..., 2].mean(axis=1), kind="stable")
        image = Image.new("RGB", (width, height), BACKGROUND_RGB)
        draw = ImageDraw.Draw(image)
        for corner, fill in zip(points[from_behind].tolist(), color[from_behind].tolist(), strict=True):
            draw.polygon(corner, fill=tuple(fill))
        out = io.BytesIO()
        image.resize(SIZE_PX, Image.Resampling.LANCZOS).save(out, "PNG")
        return out.getvalue()

    def _placed(self, positions_rad: Mapping[str, float]) -> list[tuple[Floats, npt.NDArray[np.int64]]]:
        frames = self._body.base_from_link(positions_rad)
        placed = []
        for shape, (vertices, faces) in zip(self._body.shapes, self._meshes, strict=True):
            base_from_shape = frames[shape.link] @ shape.link_from_shape
            placed.append((vertices @ base_from_shape[:3, :3].T + base_from_shape[:3, 3], faces))
        return placed


@functools.cache
def _camera() -> Floats:
    """Return the rows right, up and towards the onlooker, who stands before the head (x forward, z up)."""
    towards = np.array(
        [np.cos(TURN_RAD) * np.cos(RAISED_RAD), np.sin(TURN_RAD) * np.cos(RAISED_RAD), np.sin(RAISED_RAD)]
    )
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


def _mesh(shape: VisualShape) -> tuple[Floats, npt.NDArray[np.int64]]:
    if shape.kind == "box":
        mesh = trimesh.creation.box(extents=shape.size_m)
        mesh = mesh.subdivide()
    elif shape.kind == "sphere":
        radius_m = shape.size_m[0]
        mesh = trimesh.creation.icosphere(
            subdivisions=1 + (radius_m > 0.015) + (radius_m > 0.05), radius=radius_m
        )
    elif shape.kind == "cylinder":
        mesh = trimesh.creation.cylinder(radius=shape.size_m[0], height=shape.size_m[1], sections=16)
    else:
        if shape.mesh is None:
            raise ValueError(f"the mesh of link {shape.link} has no file")
        mesh = trimesh.load_mesh(shape.mesh)
        mesh.vertices = np.asarray(mesh.vertices) * np.asarray(shape.size_m)
    return np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces, np.int64)
