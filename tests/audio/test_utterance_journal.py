"""What was being said is known after a crash."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from timar_audio.utterance_journal import LENGTH, UtteranceJournal

NAMES = [("first", 16_000), ("emoji 🙂 and \u202eright to left", 0)]


def test_a_killed_process_leaves_what_it_wrote_last_whole(tmp_path: Path):
    path = tmp_path / "folder" / "journal"
    code = (
        "import sys; from pathlib import Path; from timar_audio.utterance_journal import UtteranceJournal\n"
        "journal, heard = UtteranceJournal(Path(sys.argv[1])), 0\n"
        "while True:\n"
        "    journal.write([('a', heard), ('b', heard)]); heard += 1\n"
        "    print(heard, flush=True) if heard == 1000 else None\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(OSError, match="another playback node of this name holds"):
        UtteranceJournal(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (_, heard), (_, again) = UtteranceJournal(path).read()
    assert heard == again >= 999


def test_what_does_not_fit_is_left_out_and_what_is_no_journal_is_nothing(tmp_path: Path):
    journal = UtteranceJournal(tmp_path / "journal")
    assert journal.read() == []
    journal.write(NAMES)
    assert journal.read() == NAMES
    journal.write([(f"{number}" * 100, number) for number in range(100)])
    assert 5 < len(journal.read()) < 100
    journal.close()
    (tmp_path / "journal").write_bytes(b"\xff" * LENGTH)
    assert UtteranceJournal(tmp_path / "journal").read() == []
