from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest
from timar_common import cli


def greet(argv: list[str]) -> int:
    """Say hello."""
    return len(argv)


@pytest.fixture
def one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint(name="greet", value=f"{greet.__module__}:greet", group=cli.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda self: greet)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])


@pytest.mark.usefixtures("one_command")
def test_help_lists_each_command_with_its_first_line(capsys: pytest.CaptureFixture) -> None:
    assert cli.main([]) == 0
    assert "greet        Say hello." in capsys.readouterr().out


@pytest.mark.usefixtures("one_command")
def test_a_command_gets_its_arguments_and_gives_its_status() -> None:
    assert cli.main(["greet", "a", "b"]) == 2


@pytest.mark.usefixtures("one_command")
def test_an_unknown_command_is_named_with_those_there_are(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["great"]) == 2
    assert "no command 'great'; the commands are: greet" in capsys.readouterr().err
