"""An engine from a package outside the workspace: installed with pip, found by name, used like a built-in."""

from __future__ import annotations

import importlib
import logging

import numpy as np
import pytest
from example_packages import install_example
from timar_model.engines import engine_names
from timar_model.engines.export import export_onnx
from timar_model.model_folder import save_model

from timar_model import commands, load_model

NAME = "logged-onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, make_network):
    path = tmp_path_factory.mktemp("extension") / "model"
    save_model(path, make_network())
    export_onnx(path)
    return path


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    return install_example("timar_example_engine", tmp_path_factory.mktemp("engine"))


@pytest.fixture
def installed(package, monkeypatch):
    monkeypatch.syspath_prepend(str(package))
    importlib.invalidate_caches()


def test_without_the_package_the_engine_is_unknown_and_those_known_are_named(folder):
    with pytest.raises(ValueError, match=r"engine is 'logged-onnx', expected one of onnx, onnx-int8, torch"):
        load_model(folder).session(engine=NAME)


def test_a_session_opens_on_it_by_name_and_draws_what_its_arithmetic_draws(installed, folder, talk, caplog):
    model = load_model(folder)
    ours, theirs = model.session("onnx", seed=4), model.session(NAME, seed=4)
    assert theirs.engine_name == "logged-onnx-cpu-float32"
    with caplog.at_level(logging.INFO):
        for frames in (5, 3, 5):
            arguments = talk.turn(ours, frames)
            np.testing.assert_array_equal(theirs.step(**arguments), ours.step(**arguments))
    assert "3 frames in" in caplog.text
    first = theirs.next_frame
    again = theirs.step(**talk.turn(theirs, 5))
    theirs.rollback(first)
    np.testing.assert_array_equal(theirs.step(**talk.turn(theirs, 5)), again)


def test_timar_engines_lists_it_with_what_it_says_of_itself(installed, folder, capsys):
    assert engine_names()[-1] == NAME
    assert commands.engines([str(folder)]) == 0
    assert "logged-onnx Compute as the onnx engine does, and log every pass" in capsys.readouterr().out
