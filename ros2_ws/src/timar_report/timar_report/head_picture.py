"""Draws a robot's head from the front for given joint positions, small and without a graphics card."""

from __future__ import annotations

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
YAW_RAD = 0.35
"""How far the onlooker stands to the head's left."""
RAISED_RAD = 0.06
LIGHT = np.array([0.8, 0.35, 0.5])
BACKGROUND_RGB = (245, 245, 242)


class HeadPainter:
    """Paint one robot in any pose, all pictures at one scale.

    Args:
        urdf: Its description.
        size_px: Width and height of a picture [px].

    Raises:
        FileNotFoundError: It, or a mesh of it, is not there.
        ValueError: It cannot be drawn.
    """

    def __init__(self, urdf: Path, size_px: tuple[int, int] = SIZE_PX) -> None:
        self._size_px = size_px
        self._body: RobotModel = read_drawable_urdf(urdf)
        self._meshes = [_mesh(shape) for shape in self._body.shapes]
        self._camera = _camera()
        seen = np.concatenate([triangles for triangles, _, _ in self._seen({})]).reshape(-1, 3)
        low, high = seen.min(axis=0), seen.max(axis=0)
        self._middle = (low + high) / 2
        # A head that turns or nods needs some room.
        room = np.array([1.25, 1.2]) * (high - low)[:2]
        self._scale = float((OVERSAMPLING * np.array(size_px) / room).min())

    def png(self, positions_rad: Mapping[str, float]) -> bytes:
        """Return a picture as PNG; joints left out stand at zero."""
        out = io.BytesIO()
        self.image(positions_rad).save(out, "PNG")
        return out.getvalue()

    def image(self, positions_rad: Mapping[str, float]) -> Image.Image:
        """Return a picture of `size_px`, RGB; joints left out stand at zero."""
        size = (self._size_px[0] * OVERSAMPLING, self._size_px[1] * OVERSAMPLING)
        corners, colors = [], []
        for triangles, normals, color_rgb in self._seen(positions_rad):
            light = self._camera @ LIGHT / np.linalg.norm(LIGHT)
            brightness = 0.55 + 0.45 * np.maximum(normals @ light, 0.0)
            faces_us = normals[:, 2] > 0
            corners.append(((triangles - self._middle) * self._scale)[faces_us])
            colors.append(np.clip(255 * np.outer(brightness, color_rgb), 0, 255).astype(int)[faces_us])
        seen, color = np.concatenate(corners), np.concatenate(colors)
        points = (np.array(size) / 2 + seen[..., :2] * [1, -1]).reshape(-1, 6)
        from_behind = np.argsort(seen[..., 2].mean(axis=1), kind="stable")
        image = Image.new("RGB", size, BACKGROUND_RGB)
        draw = ImageDraw.Draw(image)
        for corner, fill in zip(points[from_behind].tolist(), color[from_behind].tolist(), strict=True):
            draw.polygon(corner, fill=tuple(fill))
        return image.resize(self._size_px, Image.Resampling.LANCZOS)

    def _seen(self, positions_rad: Mapping[str, float]) -> list[tuple[Floats, Floats, tuple[float, ...]]]:
        """Return each shape's (n, 3, 3) triangles and (n, 3) normals in the camera's axes, and its colour."""
        frames, found = self._body.base_from_link(positions_rad), []
        for shape, mesh in zip(self._body.shapes, self._meshes, strict=True):
            camera_from_shape = self._camera @ (frames[shape.link] @ shape.link_from_shape)[:3]
            rotation, offset = camera_from_shape[:, :3], camera_from_shape[:, 3]
            triangles, normals = mesh.triangles @ rotation.T + offset, mesh.face_normals @ rotation.T
            found.append((triangles, normals, tuple(shape.color_rgb)))
        return found


def _camera() -> Floats:
    """Return the rows right, up and towards the onlooker, who stands before the head (x forward, z up)."""
    towards = np.array(
        [np.cos(YAW_RAD) * np.cos(RAISED_RAD), np.sin(YAW_RAD) * np.cos(RAISED_RAD), np.sin(RAISED_RAD)]
    )
    right = np.cross([0.0, 0.0, 1.0], towards)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(towards, right), towards])


def _mesh(shape: VisualShape) -> trimesh.Trimesh:
    if shape.kind == "box":
        return trimesh.creation.box(extents=shape.size_m).subdivide()
    if shape.kind == "sphere":
        radius_m = shape.size_m[0]
        detail = 1 + (radius_m > 0.015) + (radius_m > 0.05)
        return trimesh.creation.icosphere(subdivisions=detail, radius=radius_m)
    if shape.kind == "cylinder":
        return trimesh.creation.cylinder(radius=shape.size_m[0], height=shape.size_m[1], sections=16)
    if shape.mesh is None:
        raise ValueError(f"the mesh of link {shape.link} has no file")
    mesh = trimesh.load_mesh(shape.mesh)
    mesh.vertices = np.asarray(mesh.vertices) * np.asarray(shape.size_m)
    return mesh
