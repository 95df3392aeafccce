"""Blind pairs of heads: alike but for their gestures, and the page does not say which is which."""

import json
import re
import shutil

import numpy as np
import pytest
from made_archive import write_archive
from timar_training import listen_command

pytestmark = pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")


def test_pairs_differ_in_gestures_alone_and_the_page_keeps_the_secret(tmp_path):
    archive = write_archive(tmp_path / "made.zip", meetings=1, seconds=140)
    out = tmp_path / "pairs"
    assert listen_command.main([str(archive), str(out), "--pairs", "4", "--seconds", "15"]) == 0
    page = (out / "index.html").read_text()
    assert "annotated" not in page
    assert "drawn" not in page
    pairs = json.loads(re.search(r"pairs = (\[.*?\]), answers", page)[1])
    key = json.loads((out / "key.json").read_text())
    assert len(pairs) == len(key) == 4
    assert {row["left"] for row in key} == {"annotated", "drawn"}
    for number, (left, right) in enumerate(np.array(pairs)):
        assert left.shape == (15 * 25, 4)
        np.testing.assert_array_equal(left[:, 3], right[:, 3])
        assert (left[:, :3] != right[:, :3]).any()
        assert (out / f"clip_{number:02d}.wav").is_file()


def test_an_archive_without_a_lively_clip_is_refused(tmp_path, capsys):
    archive = write_archive(tmp_path / "made.zip", meetings=1, seconds=60)
    assert listen_command.main([str(archive), str(tmp_path / "pairs")]) == 1
    assert "larger archive" in " ".join(capsys.readouterr().err.split())
