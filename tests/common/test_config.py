from __future__ import annotations

import dataclasses

import pytest
from timar_common.config import check, describe, option


@dataclasses.dataclass(frozen=True)
class Example:
    gain: float = option(1.0, "Amplification.", unit="dB", minimum=-6.0, maximum=6.0)
    blocks: int = option(3, "How many.", minimum=1, maximum=9)
    mode: str = option("quick", "How.", choices=("quick", "slow"))
    names: tuple[str, ...] = option((), "Which.")

    def __post_init__(self) -> None:
        check(self)


def test_every_field_carries_doc_unit_and_range() -> None:
    assert describe(Example)["gain"].text() == "Amplification. [dB]"
    assert describe(Example)["mode"].text() == "How. One of: quick, slow."


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"gain": 7.0}, "Example.gain is 7.0, expected a number from -6 to 6"),
        ({"gain": float("nan")}, "Example.gain is nan"),
        ({"gain": True}, "Example.gain is True, expected float"),
        ({"blocks": 1.5}, "Example.blocks is 1.5, expected int"),
        ({"mode": "fast"}, "Example.mode is 'fast', expected one of quick, slow"),
        ({"names": ("a", 3)}, "Example.names is"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_range(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Example(**values)


def test_a_whole_number_does_for_a_real_one() -> None:
    assert Example(gain=2).gain == 2
