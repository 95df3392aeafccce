"""The commands of this room are quick to load and known by their names."""

import subprocess
import sys

import pytest

COMMANDS = ("data", "train", "evaluate", "compare", "publish")


def test_loading_every_command_loads_no_torch():
    imports = ", ".join(f"timar_training.{name}_command" for name in COMMANDS)
    code = f"import sys, {imports}; sys.exit('torch' in sys.modules)"
    paths = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    assert subprocess.run([sys.executable, "-c", code], env=paths, check=False).returncode == 0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    module = __import__(f"timar_training.{name}_command", fromlist=["main"])
    with pytest.raises(SystemExit) as end:
        module.main(["--help"])
    assert end.value.code == 0
    assert module.main.__doc__.splitlines()[0] in " ".join(capsys.readouterr().out.split())
