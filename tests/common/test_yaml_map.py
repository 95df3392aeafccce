"""A YAML mapping is read strictly: every complaint names file, line and rule."""

import time
import tracemalloc

import pytest
from timar_common.yaml_map import read_yaml_map


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "robot.yaml"
    text = "name: head\nspeed: 2.5\ncount: 3\nlimits: [-1, 1]\nnested:\n  kind: heavy\n"
    path.write_text(text, encoding="utf-8")
    return read_yaml_map(path)


def test_values_come_in_their_type(document):
    assert document.text("name") == "head"
    assert document.text("absent", "fallback") == "fallback"
    assert document.number("speed") == 2.5
    assert document.integer("count") == 3
    assert document.integer("absent", 4) == 4
    assert document.numbers("limits", 2) == (-1.0, 1.0)
    assert document.child("nested").text("kind", choices=("light", "heavy")) == "heavy"
    assert document.child("missing", optional=True).is_absent
    document.refuse_rest()


COMPLAINTS = {
    "line 2, top level: 'speed' is 2.5, expected a whole number": lambda d: d.integer("speed"),
    "line 3, top level: 'count' is 3, expected 4 to 5": lambda d: d.integer("count", minimum=4, maximum=5),
    "line 6, nested: 'kind' is 'heavy', expected one of light": lambda d: d.child("nested").text(
        "kind", choices=("light",)
    ),
    "line 1, top level: 'name' must be a finite number": lambda d: d.number("name"),
    "line 4, top level: 'limits' must be a list of 3 numbers": lambda d: d.numbers("limits", 3),
    "line 1, top level: 'colour' is missing": lambda d: d.text("colour"),
    "line 1, top level: 'name' must be a mapping": lambda d: d.child("name"),
    "unknown key 'name'; known here: count": lambda d: (d.integer("count"), d.refuse_rest()),
}  # fmt: skip


@pytest.mark.parametrize("message", COMPLAINTS)
def test_a_mistake_is_named_with_its_line(document, message):
    with pytest.raises(ValueError) as error:
        COMPLAINTS[message](document)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "is not YAML"),
        ("- 1", "must be a mapping"),
        ("a: 1\na: 2", "'a' is said twice, first in line 1"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused(tmp_path, text, message):
    path = tmp_path / "x.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_yaml_map(path)


def test_values_are_pythons_with_merges_and_no_key_twice_at_any_depth(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("base: &base {a: 1, b: [x, 2.5]}\nother: {<<: *base, a: true}\n", encoding="utf-8")
    document = read_yaml_map(path)
    assert document.values() == {"base": {"a": 1, "b": ["x", 2.5]}, "other": {"a": True, "b": ["x", 2.5]}}
    document.refuse_rest()
    path.write_text("a:\n  b: {c: 1, c: 2}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: 'c' is said twice"):
        read_yaml_map(path).values()


def bomb(levels: int, link: str) -> str:
    """Return lines of which each holds the one above nine times."""
    lines = ["a0: &a0 {x: 1}"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} " + link.format(", ".join([f"*a{level - 1}"] * 9)))
    return "\n".join(lines)


@pytest.mark.parametrize("link", ["[{}]", "{{<<: [{}]}}"])
def test_aliases_that_mean_billions_of_values_are_refused_at_once(tmp_path, link):
    path = tmp_path / "x.yaml"
    path.write_text(bomb(10, link), encoding="utf-8")
    tracemalloc.start()
    began_s = time.monotonic()
    with pytest.raises(
        ValueError, match=r"x.yaml means \d+ values once its aliases \(\*name\) are written out"
    ):
        read_yaml_map(path)
    assert time.monotonic() - began_s < 2.0
    assert tracemalloc.get_traced_memory()[1] < 4e6
    tracemalloc.stop()
    path.write_text(bomb(4, link), encoding="utf-8")
    assert "a3" in read_yaml_map(path).values()


def test_a_huge_file_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 33)
    with pytest.raises(ValueError, match="has 8589934592 bytes, expected a YAML file of at most"):
        read_yaml_map(path)


def test_an_unknown_key_is_refused_with_the_nearest_known_one(document):
    with pytest.raises(ValueError, match=r"line 2, top level: unknown key 'speed'; did you mean 'speeds'\?"):
        document.refuse_unknown(["name", "speeds", "count", "limits", "nested"])
