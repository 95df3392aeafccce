"""The commands: a published checkpoint becomes a model that runs, and mistakes are told in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from timar_common.motion_file import read_motion
from timar_common.wav import write_wav
from timar_model.architecture.reference import read_reference, read_statistics
from timar_model.session.recording import run_session

from timar_model import commands, load_model

GOLDEN = Path(__file__).parents[1] / "data" / "timar_golden"


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("imported")
    (folder / "stat.json").write_text(json.dumps({"mean": [0.25] * 56, "std": [2.0] * 56}))
    arguments = [str(GOLDEN / "timar.safetensors"), str(folder / "model"), "--heads", "4"]
    arguments += ["--speech-encoder", str(GOLDEN / "wav2vec2"), "--statistics", str(folder / "stat.json")]
    assert commands.import_model([*arguments, "--no-export"]) == 0
    assert commands.export([str(folder / "model"), "--int8"]) == 0
    return folder / "model"


def test_imported_model_carries_the_statistics(imported):
    manifest = load_model(imported).manifest
    assert (manifest["motion_mean"], manifest["motion_std"]) == ([0.25] * 56, [2.0] * 56)
    assert manifest["provenance"]["checkpoint"] == "timar.safetensors"


def test_imported_model_runs_on_every_engine_with_its_own_speech_encoder(imported):
    """The exported encoder hears what torch hears; int8 comes near."""
    random = np.random.default_rng(0)
    model = load_model(imported)
    sessions = {name: model.session(name, window_turns=2) for name in ("torch", "onnx", "onnx-int8")}
    for _ in range(4):
        sound = 0.1 * random.standard_normal((2, 16_000)).astype(np.float32)
        motion = random.standard_normal((25, 56)).astype(np.float32)
        found = {name: session.step(sound[0], motion, sound[1]) for name, session in sessions.items()}
        np.testing.assert_allclose(found["onnx"], found["torch"], rtol=0, atol=1e-4)
        error = np.abs(found["onnx-int8"] - found["torch"]).mean()
        assert 0 < error < 0.15 * found["torch"].std()


def test_average_weights_are_preferred_where_a_checkpoint_has_both(tmp_path):
    plain = {"fake_latent": torch.zeros(1, 1, 3)}
    average = {"fake_latent": torch.ones(1, 1, 3)}
    torch.save({"model": plain, "model_ema": average}, tmp_path / "both.pth")
    torch.save({"model": plain}, tmp_path / "plain.pth")
    assert read_reference(tmp_path / "both.pth")["fake_latent"].max() == 1
    assert read_reference(tmp_path / "both.pth", "model")["fake_latent"].max() == 0
    assert read_reference(tmp_path / "plain.pth")["fake_latent"].max() == 0


def test_statistics_come_from_json_or_npz_and_nothing_else(tmp_path):
    np.savez(tmp_path / "stat.npz", mean=np.zeros((1, 56)), std=np.full((1, 56), 3.0))
    assert read_statistics(tmp_path / "stat.npz").std.max() == 3.0
    (tmp_path / "stat.json").write_text('{"mean": [1]}')
    with pytest.raises(ValueError, match="holds no motion statistics"):
        read_statistics(tmp_path / "stat.json")
    np.savez(tmp_path / "objects.npz", mean=np.array([{}]), std=np.ones(56))
    with pytest.raises(ValueError, match="holds no motion statistics"):
        read_statistics(tmp_path / "objects.npz")


@pytest.mark.parametrize(
    ("name", "raw", "message"),
    [
        ("noise.pth", b"\x80\x02spam", "no plain checkpoint of tensors"),
        ("noise.safetensors", b"spam", "is not a safetensors file"),
    ],
)
def test_checkpoint_that_is_none_is_refused_in_one_sentence(name, raw, message, tmp_path, capsys):
    (tmp_path / name).write_bytes(raw)
    assert commands.import_model([str(tmp_path / name), str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert message in told
    assert told.startswith("timar import: ")
    assert not (tmp_path / "out").exists()


def test_engines_says_what_is_missing_and_how_to_get_it(tmp_path, network, capsys):
    from timar_model.model_folder import save_model

    save_model(tmp_path / "model", network)
    assert commands.engines([str(tmp_path / "model")]) == 0
    told = capsys.readouterr().out
    assert "lacks backbone.int8.onnx (timar export --int8" in told
    assert "CUDAExecutionProvider is not there" in told or "CUDAExecutionProvider," in told


def test_engines_of_a_folder_that_is_no_model_are_refused(tmp_path, capsys):
    for name, message in ((str(tmp_path), "lacks manifest.json"), ("nowhere", "shipped are")):
        assert commands.engines([name]) == 1
        assert message in capsys.readouterr().err


def test_engines_name_every_file_a_model_with_wav2vec_lacks(imported):
    import dataclasses

    from timar_model.model_folder import read_model

    folder = read_model(imported)
    assert set(commands.obstacles(folder).values()) == {""}
    files = {name: facts for name, facts in folder.manifest["files"].items() if ".int8.onnx" not in name}
    bare = dataclasses.replace(folder, manifest={**folder.manifest, "files": files})
    assert "lacks backbone.int8.onnx, speech.int8.onnx" in commands.obstacles(bare)["onnx-int8"]


def test_a_processors_way_with_bytes_is_named_best_first():
    assert commands.int8_products({"avx2", "avx512_vnni", "amx_int8"}) == "by AMX"
    assert commands.int8_products({"avx2", "avx512_vnni"}) == "by AVX-512 VNNI"
    assert "weights of 7 bits" in commands.int8_products({"avx2"})


def test_checkpoint_that_is_not_there_is_named(tmp_path, capsys):
    assert commands.import_model([str(tmp_path / "no.pth"), str(tmp_path / "out")]) == 1
    assert "there is no checkpoint" in capsys.readouterr().err


def test_import_replaces_no_folder_that_is_not_a_model(tmp_path, capsys):
    """A slip in the second argument took a folder of somebody's work with it."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("It was a dark night.")
    arguments = [str(GOLDEN / "timar.safetensors"), str(tmp_path / "thesis"), "--heads", "4"]
    assert commands.import_model([*arguments, "--speech-encoder", str(GOLDEN / "wav2vec2")]) == 1
    assert "is no model folder and would be replaced" in capsys.readouterr().err
    assert (tmp_path / "thesis" / "chapter1.tex").read_text() == "It was a dark night."


def test_import_takes_the_arguments_it_is_documented_with(tmp_path):
    """Checkpoint, configuration, speech encoder, place: in this order; the draws of the released code fit."""
    import timar_model

    checkpoint, encoder = GOLDEN / "timar.safetensors", GOLDEN / "wav2vec2"
    timar_model.import_reference(checkpoint, {"heads": 4}, encoder, tmp_path / "model")
    session = load_model(tmp_path / "model").session(
        history="filled",
        iterations=1,
        guidance=1.0,
        guidance_schedule="constant",
        temperature=1.0,
        window_turns=4,
        order="sequential",
    )
    case = {
        name.removeprefix("filled_history."): array
        for name, array in np.load(GOLDEN / "sampling.npz").items()
        if name.startswith("filled_history.")
    }
    for turn in range(2):
        given = [case[name][turn] for name in ("user_speech", "user_motion", "agent_speech")]
        motion = session.step(*given, noise=[case[f"noise.{turn}.{draw}"] for draw in range(6)])
        assert motion.shape == (25, 56)
        np.testing.assert_allclose(motion, case["agent_motion"][turn], rtol=0, atol=2e-5)


def test_engines_are_measured_with_all_their_work(monkeypatch, capsys):
    """One row for each engine; int8 differs from float32 by a little, float32 from itself by nothing."""
    monkeypatch.setattr(commands, "cores", lambda: 1)
    monkeypatch.setattr(
        commands, "obstacles", lambda folder: {"onnx-int8": "", "torch": "not here", "onnx": ""}
    )
    assert commands.engines(["calm-head", "--measure"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("onnx-cpu-")]
    assert [row[0].removesuffix("-7bit") for row in rows] == ["onnx-cpu-float32", "onnx-cpu-int8"]
    assert float(rows[0][-1]) == 0
    assert 0 < float(rows[1][-1]) <= 0.01
    for row in rows:
        assert row[2] == "rolls"
        busy_s = (float(row[3]) + float(row[6])) / 1e3
        # p50 and mean differ, but the factor holds more than the turn alone.
        assert float(row[7]) > 0.5 * busy_s / 0.2


def test_two_sound_files_become_the_motion_of_a_session(tmp_path):
    random = np.random.default_rng(3)
    voices = [random.normal(0, 3000, 16_000 * seconds).astype(np.int16) for seconds in (3, 2)]
    files = [str(tmp_path / f"{name}.wav") for name in ("user", "agent")]
    for file, voice in zip(files, voices, strict=True):
        write_wav(file, voice)
    assert commands.main(["run", *files, str(tmp_path / "out.npz"), "--seed", "4", "--turn-frames", "2"]) == 0
    session = load_model("calm-head").session("onnx", seed=4)
    expected = run_session(session, *(voice.astype(np.float32) / 32768 for voice in voices), turn_frames=2)
    written = read_motion(tmp_path / "out.npz")
    assert len(written.vector) == 50  # The shorter file's.
    np.testing.assert_allclose(written.vector, expected, atol=1e-6)


def test_what_generate_cannot_use_is_said_in_a_sentence(tmp_path, capsys):
    write_wav(tmp_path / "short.wav", np.zeros(1000, np.int16))
    (tmp_path / "no_sound.wav").write_bytes(b"nothing")
    good = str(tmp_path / "short.wav")
    for arguments, said in (
        ([good, good], "the shorter file holds 0.06 s; expected at least one turn, 0.20 s"),
        ([str(tmp_path / "no_sound.wav"), good], "no_sound.wav"),
        ([good, good, "--model", "nobody"], "nobody"),
        ([good, good, "--engine", "steam"], "steam"),
        ([good, good, "--user-motion", good], "short.wav"),
    ):
        assert commands.generate([*arguments[:2], str(tmp_path / "out.npz"), *arguments[2:]]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "out.npz").exists()
