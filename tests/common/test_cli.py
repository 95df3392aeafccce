"""The command `timar`: its help, its subcommands, and what it says when something is missing."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from importlib.metadata import EntryPoint
from pathlib import Path

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


@pytest.fixture
def heavy_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A command in a package that cannot be imported, for torch is not there."""
    package = tmp_path / "heavy"
    package.mkdir()
    (package / "__init__.py").write_text("from no_such_torch import nn\n")
    (package / "lift.py").write_text(
        textwrap.dedent(
            '''
            def main(argv):
                """Lift something heavy.

                More about it.
                """
            '''
        )
    )
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint(name="lift", value="heavy.lift:main", group=cli.GROUP)
    monkeypatch.setattr(cli, "entry_points", lambda group: [entry])


@pytest.mark.usefixtures("heavy_command")
def test_help_lists_each_command_with_its_first_line_and_imports_none(
    capsys: pytest.CaptureFixture,
) -> None:
    assert cli.main([]) == 0
    assert "  lift         Lift something heavy.\n" in capsys.readouterr().out
    assert "heavy" not in sys.modules


@pytest.mark.usefixtures("heavy_command")
def test_a_command_whose_package_is_missing_names_it_and_the_way_to_get_it(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "OF_TRAINING", ("no_such_torch",))
    assert cli.main(["lift"]) == 1
    assert capsys.readouterr().err == (
        "timar lift: the package 'no_such_torch' is not installed; "
        "it comes with training: make setup-training\n"
    )


@pytest.mark.usefixtures("one_command")
def test_a_command_gets_its_arguments_and_gives_its_status() -> None:
    assert cli.main(["greet", "a", "b"]) == 2


@pytest.mark.usefixtures("one_command")
def test_an_unknown_command_is_named_with_those_there_are(capsys: pytest.CaptureFixture) -> None:
    assert cli.main(["great"]) == 2
    assert "no command 'great'; did you mean 'greet'? The commands are: greet" in capsys.readouterr().err


def test_help_of_the_installed_commands_loads_nothing_heavy_and_leaves_none_without_a_line() -> None:
    code = (
        "import sys; from timar_common import cli; cli.main([]); "
        "print({'numpy', 'torch', 'matplotlib'} & set(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "set()\n"
    assert [line for line in done.stdout.splitlines()[3:] if len(line.split()) < 3] == []
