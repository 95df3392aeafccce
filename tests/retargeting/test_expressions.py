"""Expression channels: fitted weights tell new data, meshes are read exactly, nothing unsafe is loaded."""

import re

import numpy as np
import pytest
import yaml
from timar_retargeting.expressions import (
    MeshChannel,
    fit_channels,
    mesh_channels,
    read_channels,
    yaml_of,
)
from timar_retargeting.robot_command import main


@pytest.fixture
def paired():
    """A face whose first numbers matter, slow in time as faces are."""
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 1, (3000, 50)) * np.linspace(1.0, 0.05, 50)
    kernel = np.hanning(25) / np.hanning(25).sum()
    expression = np.stack([np.convolve(column, kernel, "same") for column in steps.T], axis=1) * 4
    smile = 0.3 + expression @ np.concatenate([[0.2, -0.1, 0.05], np.zeros(47)])
    channels = {
        "mouthSmileLeft": smile + rng.normal(0, 0.02, 3000),
        "noise": np.convolve(rng.normal(0, 1, 3000), kernel, "same"),
    }
    return expression, channels


def test_a_channel_that_the_numbers_tell_is_found_and_one_they_do_not_is_told_so(paired):
    smile, noise = fit_channels(*paired)
    assert smile.explained > 0.9
    assert noise.explained < 0.1
    np.testing.assert_allclose(smile.channel.weights[:3], [0.2, -0.1, 0.05], atol=0.02)
    assert smile.channel.offset == pytest.approx(0.3, abs=0.02)
    assert np.abs(smile.channel.weights[3:]).max() < 0.1


def test_few_noisy_frames_are_fitted_with_more_care_than_many(paired):
    expression, channels = paired
    noisy = {"smile": channels["mouthSmileLeft"] + np.random.default_rng(1).normal(0, 0.3, 3000)}
    (few,) = fit_channels(expression[:150], {"smile": noisy["smile"][:150]})
    (many,) = fit_channels(expression, noisy)
    assert few.strength > many.strength


def test_csv_of_a_face_capture_app_to_yaml_of_a_robot(paired, tmp_path, capsys):
    expression, channels = paired
    np.savez(tmp_path / "clip.npz", exp=expression)
    lines = ["Timecode,mouthSmileLeft,noise"]
    rows = zip(channels["mouthSmileLeft"], channels["noise"], strict=True)
    lines += [f"00:00:{k},{smile:.6f},{noise:.6f}" for k, (smile, noise) in enumerate(rows)]
    (tmp_path / "live.csv").write_text("\n".join(lines))
    arguments = ["--expression", str(tmp_path / "clip.npz"), "--channels", str(tmp_path / "live.csv")]
    assert main(["fit-expressions", *arguments]) == 0
    said = capsys.readouterr()
    entry = yaml.safe_load(said.out)["expressions"]
    assert list(entry) == ["mouthSmileLeft"]
    assert entry["mouthSmileLeft"]["offset"] == pytest.approx(0.3, abs=0.02)
    assert "noise: " in said.err
    assert "left out" in said.err
    assert main(["fit-expressions", *arguments, "--name", "noise"]) == 1


def test_a_mesh_channel_is_exactly_how_far_its_vertices_move(tmp_path):
    rng = np.random.default_rng(0)
    basis = rng.normal(0, 1e-3, (200, 3, 400))
    np.savez(tmp_path / "face.npz", shapedirs=basis)
    wanted = {"smile": MeshChannel((3, 4), (0.0, 2.0, 0.0), against=(7,), full_m=0.005)}
    channel = mesh_channels(tmp_path / "face.npz", wanted, 300)["smile"]
    face = rng.normal(0, 1, 50)
    moved = basis[:, :, 300:350] @ face
    expected = (moved[[3, 4], 1].mean() - moved[7, 1]) / 0.005
    assert channel.weights @ face == pytest.approx(expected)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape_numbers": 360}, "or more"),
        ({"channels": {"smile": MeshChannel((900,), (0.0, 1.0, 0.0))}}, "names vertex 900"),
    ],
)
def test_a_mesh_that_does_not_fit_is_told(tmp_path, change, words):
    np.savez(tmp_path / "face.npz", shapedirs=np.zeros((10, 3, 400)))
    arguments = {"channels": {"smile": MeshChannel((1,), (0.0, 1.0, 0.0))}, "shape_numbers": 300} | change
    with pytest.raises(ValueError, match=words):
        mesh_channels(tmp_path / "face.npz", **arguments)


def test_a_pickle_in_a_file_is_never_loaded(tmp_path, capsys):
    path = tmp_path / "face.npz"
    np.savez(path, shapedirs=np.array([{"code": 1}], dtype=object))
    (tmp_path / "channels.yaml").write_text("smile: {vertices: [1], direction: [0, 1, 0]}")
    arguments = ["--mesh", str(path), "--channels", str(tmp_path / "channels.yaml")]
    assert main(["fit-expressions", *arguments]) == 1
    assert "allow_pickle" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "smile: {vertices: [corner], direction: [0, 1, 0]}",
            r"line 1, smile: vertices is \[corner\]",
        ),
        ("smile: {vertices: [1]}", "line 1, smile: 'direction' is missing"),
        ("smile: {vertices: [1], direction: [0, 1, 0], full: 1}", "line 1, smile: .*'full'"),
        ("mouthSmile,brow", "line 1"),
    ],
)
def test_a_mistake_in_the_wanted_mesh_channels_is_told_by_line_and_channel(tmp_path, capsys, text, words):
    path = tmp_path / "wanted.yaml"
    path.write_text(text)
    assert main(["fit-expressions", "--mesh", "face.npz", "--channels", str(path)]) == 1
    assert re.search(words, said := capsys.readouterr().err), said
    assert "Error(" not in said


def test_data_that_cannot_be_paired_is_refused(paired, tmp_path):
    expression, channels = paired
    with pytest.raises(ValueError, match="expected \\(3000,\\)"):
        fit_channels(expression, {"smile": channels["noise"][:-1]})
    with pytest.raises(ValueError, match="not finite"):
        fit_channels(np.where(expression > 1, np.nan, expression), channels)
    (tmp_path / "live.csv").write_text("Timecode,smile\n1:0,0.5\n")
    with pytest.raises(ValueError, match="no channel frown; it has: smile"):
        read_channels(tmp_path / "live.csv", ["frown"])


def test_yaml_of_channels_reads_back_as_a_robots(paired, tmp_path, robot):
    from timar_retargeting.robot import load_robot

    fitted = {one.name: one.channel for one in fit_channels(*paired)}
    text = robot.urdf.with_suffix(".yaml").read_text("utf-8").replace("expressions: {}", yaml_of(fitted))
    path = tmp_path / "head.yaml"
    path.write_text(text.replace("urdf: timar_head.urdf", f"urdf: {robot.urdf}"))
    read = load_robot(path).expressions["mouthSmileLeft"]
    np.testing.assert_allclose(read.weights, fitted["mouthSmileLeft"].weights, rtol=1e-4)
    assert read.offset == pytest.approx(fitted["mouthSmileLeft"].offset, rel=1e-4)
