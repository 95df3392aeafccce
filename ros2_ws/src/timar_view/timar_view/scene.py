"""Three-dimensional scene of the page: the robot, lights and camera."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import viser
import viser.transforms
from timar_description.urdf import RobotModel, Transform, VisualShape

SMALLEST_STEP_RAD = 2e-4
"""A joint that moved less is not sent again: it could not be seen."""


class RobotScene:
    """Draw a robot once, then send only the joints that moved.

    Args:
        server: The browser's server.
        robot: What to draw.
        path: Name of the robot's root in the scene.
    """

    def __init__(self, server: viser.ViserServer, robot: RobotModel, path: str = "/robot") -> None:
        self._robot = robot
        self._sent: dict[str, float] = {}
        names = {robot.root: path}
        server.scene.add_frame(path, show_axes=False)
        self._frames: dict[str, viser.FrameHandle] = {}
        for joint in robot.joints.values():
            names[joint.child] = f"{names[joint.parent]}/{joint.child}"
            wxyz, position = _pose(joint.parent_from_child(0.0))
            self._frames[joint.name] = server.scene.add_frame(
                names[joint.child], show_axes=False, wxyz=wxyz, position=position
            )
        for number, shape in enumerate(robot.shapes):
            _draw(server.scene, f"{names[shape.link]}/shape{number}", shape)

    def move(self, positions: Mapping[str, float]) -> int:
        """Put the joints where they are and return how many frames were sent.

        Args:
            positions: By joint name [rad or m]; joints left out stay where they are.
        """
        sent = 0
        for joint in self._robot.joints.values():
            value = positions.get(joint.driver)
            if joint.kind == "fixed" or value is None:
                continue
            if abs(value - self._sent.get(joint.name, np.inf)) < SMALLEST_STEP_RAD:
                continue
            frame = self._frames[joint.name]
            wxyz, position = _pose(joint.parent_from_child(value))
            frame.wxyz = wxyz
            if joint.kind == "prismatic":
                frame.position = position
            self._sent[joint.name] = value
            sent += 1
        return sent


def set_up_scene(server: viser.ViserServer) -> None:
    """Set lights, background and the first camera for a head about half a metre tall that looks along x."""
    scene = server.scene
    scene.configure_environment_map(None)
    scene.configure_default_lights(False)
    scene.add_light_hemisphere(
        "/light/sky", sky_color=(255, 250, 242), ground_color=(150, 160, 176), intensity=2.3
    )
    scene.add_light_directional("/light/key", color=(255, 244, 228), intensity=2.6, position=(1.2, 0.9, 1.4))
    scene.add_light_directional(
        "/light/rim", color=(190, 220, 255), intensity=1.2, position=(-0.6, -1.2, 0.9)
    )
    # A lit sphere around the stage shades itself into a smooth gradient, on every machine alike.
    scene.add_icosphere(
        "/backdrop",
        6.0,
        (228, 238, 243),
        side="back",
        cast_shadow=False,
        receive_shadow=False,
        subdivisions=8,
    )
    camera = server.initial_camera
    camera.position = (0.86, 0.17, 0.33)
    camera.look_at = (0.0, 0.0, 0.235)
    camera.up = (0.0, 0.0, 1.0)
    camera.fov = 0.6
    camera.near = 0.1
    camera.far = 20.0


def _draw(scene: viser.SceneApi, name: str, shape: VisualShape) -> None:
    wxyz, position = _pose(shape.link_from_shape)
    color = shape.color_rgb
    if shape.kind == "sphere":
        detail = _detail(shape.size_m[0])
        scene.add_icosphere(name, shape.size_m[0], color, subdivisions=detail, wxyz=wxyz, position=position)
    elif shape.kind == "cylinder":
        radius, length = shape.size_m
        scene.add_cylinder(name, radius, length, color, radial_segments=48, wxyz=wxyz, position=position)
    elif shape.kind == "box":
        size_m = (shape.size_m[0], shape.size_m[1], shape.size_m[2])
        scene.add_box(name, color, size_m, wxyz=wxyz, position=position)
    elif shape.mesh is not None:
        scale = (shape.size_m[0], shape.size_m[1], shape.size_m[2])
        # Half of the page's start would go into this import, and few robots have meshes.
        import trimesh

        mesh = trimesh.load_mesh(shape.mesh)
        scene.add_mesh_simple(
            name,
            mesh.vertices,
            mesh.faces,
            color=color,
            scale=scale,
            wxyz=wxyz,
            position=position,
        )


def _pose(transform: Transform) -> tuple[np.ndarray, np.ndarray]:
    return viser.transforms.SO3.from_matrix(transform[:3, :3]).wxyz, transform[:3, 3]


def _detail(radius_m: float) -> int:
    """Return the faces along an icosphere's edge: large spheres meet in seams, which show coarse faces."""
    return int(np.clip(radius_m * 500, 6, 28))
