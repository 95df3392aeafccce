"""What an error tells a person to do helps: each remedy is carried out."""

from __future__ import annotations

import re
import shlex

import numpy as np
import pytest
from timar_model.architecture.inputs import MotionStatistics
from timar_model.engines.export import export_onnx
from timar_model.model_folder import read_model, save_model, write_manifest

from timar_model import commands, load_model


@pytest.fixture
def folder(tmp_path, network):
    save_model(tmp_path / "model", network, MotionStatistics())
    return tmp_path / "model"


def run_command(text):
    """Run the `timar …` command that stands in a message."""
    words = shlex.split(re.search(r"timar export [^)\n]*", text).group())
    assert words[:2] == ["timar", "export"]
    assert commands.export(words[2:]) == 0


@pytest.mark.parametrize("engine", ["onnx", "onnx-int8"])
def test_the_command_named_for_missing_graphs_writes_them(engine, folder, talk):
    """`onnx-int8` named `timar export`, which does not write its graph."""
    with pytest.raises(FileNotFoundError, match="write it with: timar export") as error:
        load_model(folder).session(engine)
    run_command(str(error.value))
    session = load_model(folder).session(engine)
    assert session.step(**talk.turn(session, 5)).shape == (5, 56)


def test_the_command_that_timar_engines_names_makes_the_engine_run(folder):
    why_not = commands.obstacles(read_model(folder))["onnx-int8"]
    run_command(why_not)
    assert set(commands.obstacles(read_model(folder)).values()) == {""}


@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_a_damaged_graph_is_written_again_by_the_command_named(variant, folder, talk):
    export_onnx(folder, ("float32", variant))
    engine = "onnx" if variant == "float32" else "onnx-int8"
    file = folder / ("backbone.onnx" if variant == "float32" else "backbone.int8.onnx")
    found = read_model(folder)
    file.write_bytes(b"spam")
    write_manifest(folder, found.config, found.manifest["shapes"], found.statistics, {})
    with pytest.raises(ValueError, match="write it again with: timar export") as error:
        load_model(folder).session(engine)
    run_command(str(error.value))
    session = load_model(folder).session(engine)
    assert np.isfinite(session.step(**talk.turn(session, 5))).all()


def test_steps_the_graphs_lack_are_drawn_by_the_engine_named(folder, talk):
    export_onnx(folder)
    model = load_model(folder)
    session = model.session("onnx", steps=3)
    with pytest.raises(ValueError, match="use the torch engine"):
        session.step(**talk.turn(session, 5))
    session = model.session("torch", steps=3)
    assert session.step(**talk.turn(session, 5)).shape == (5, 56)
