"""Configurations and parameters from files: every mistake is named, old names are taken with a warning."""

import dataclasses

import pytest
from timar_common.config import Count, check
from timar_common.config_file import read_config, replace_fields


@dataclasses.dataclass(frozen=True)
class Run:
    data: str
    batch: Count = 8
    lengths: tuple[Count, ...] = ()

    def __post_init__(self):
        check(self)


def written(tmp_path, text):
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read_and_what_is_given_elsewhere_wins(tmp_path):
    path = written(tmp_path, "data: here\nbatch: 4\nlengths: [5, 10]\n")
    assert read_config(Run, path, batch=2) == Run("here", 2, (5, 10))
    assert read_config(Run, written(tmp_path, "batch: 4\n"), data="there") == Run("there", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("data: a\nbatchs: 3\n", r"line 2, top level: unknown key 'batchs'; did you mean 'batch'\?"),
        ("batch: 3\n", "'data' is missing"),
        ("data: a\nbatch: 0\n", "Run.batch is 0, expected a number from 1"),
        ("data: a\nlengths: [5, 0]\n", "Run.lengths is .*expected a list in which each is a number from 1"),
        ("- a\n", "must be a mapping"),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, message):
    with pytest.raises(ValueError, match=message):
        read_config(Run, written(tmp_path, text))


def test_an_old_name_is_taken_with_a_warning_that_names_the_new_one(tmp_path):
    path = written(tmp_path, "data: a\nbatch_size: 3\n")
    with pytest.warns(FutureWarning, match="'batch_size' is deprecated and will be removed; call it 'batch'"):
        assert read_config(Run, path, {"batch_size": "batch"}).batch == 3
    with pytest.warns(FutureWarning, match="call it 'batch'"):
        assert replace_fields(Run("a"), {"batch_size": 5}, {"batch_size": "batch"}).batch == 5


def test_an_unknown_field_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(ValueError, match="Run has no field 'bach'; did you mean 'batch'"):
        replace_fields(Run("a"), {"bach": 5}, {})
