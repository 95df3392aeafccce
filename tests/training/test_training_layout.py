"""The subpackages of training stand in the order in which things happen; old names lead to the new ones."""

import ast
import importlib
from pathlib import Path

import pytest
import timar_training

ORDER = (
    "corpora",
    "synthesis",
    "preparation",
    "networks",
    "prediction",
    "training",
    "evaluation",
    "publishing",
)
ROOT = Path(timar_training.__path__[0])
FILES = [path for name in ORDER for path in sorted((ROOT / name).glob("*.py"))]


def test_every_subpackage_has_its_place_in_the_order():
    assert {path.parent.name for path in ROOT.glob("*/__init__.py")} == set(ORDER)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_subpackage_imports_only_those_before_it(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = {
        (node.module or "").split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 2
    }
    assert imported <= set(ORDER[: ORDER.index(path.parent.name)])


@pytest.mark.parametrize(
    ("old", "names"),
    [
        ("baselines", ("EnergyRule", "MeanPose", "NearestClip", "fit_baseline")),
        ("conversing", ("converse", "converse_together")),
        ("dyads", ("NECK", "JAW", "Motion", "Clip", "read_split", "read_voice", "read_motion")),
        ("predictor", ("Dyad", "Predictor", "load_dyad")),
    ],
)
def test_names_of_the_last_release_are_still_importable(old, names):
    module = importlib.import_module(f"timar_training.{old}")
    assert all(hasattr(module, name) for name in names)
