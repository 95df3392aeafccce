"""`timar audio`: what people who set up a head are told."""

from __future__ import annotations

import types

import numpy as np
import pytest
from timar_audio import audio_command

DEVICES = [
    {
        "name": "Array (USB)",
        "max_input_channels": 4,
        "max_output_channels": 0,
        "default_samplerate": 48_000.0,
    },
    {"name": "Horn", "max_input_channels": 0, "max_output_channels": 2, "default_samplerate": 44_100.0},
]


def test_devices_are_listed_with_the_default_marked():
    portaudio = types.SimpleNamespace(
        query_devices=lambda: DEVICES, default=types.SimpleNamespace(device=(0, -1))
    )
    text = audio_command.describe_devices(portaudio)
    assert " *   0: Array (USB) (4 channels, 48000 Hz)" in text
    assert "     1: Horn (2 channels, 44100 Hz)" in text


def test_the_sweep_is_found_in_a_noisy_room_and_not_where_it_is_not():
    rng = np.random.default_rng(0)
    room = rng.standard_normal(48_000) * 300
    assert audio_command.find_sweep(room.astype(np.int16), 8000) is None
    room[8000 + 560 : 8000 + 560 + 8000] += audio_command.sweep() * 0.1
    assert audio_command.find_sweep(room.astype(np.int16), 8000) == pytest.approx(35.0, abs=0.2)


@pytest.mark.sound
def test_a_check_measures_level_rate_and_round_trip(virtual_sound, capsys):
    # The virtual device plays into its own microphone.
    assert audio_command.main(
        ["check", "--device", "pulse", "--rate", "16000", "--seconds", "3", "--speaker", "pulse"]
    ) == 0  # fmt: skip
    said = capsys.readouterr().out
    assert "microphone   well" in said
    trip = float(said.split("round trip")[1].split()[0])
    assert -10 < trip < 300
    assert "lost         0 samples" in said


@pytest.mark.sound
def test_a_silent_device_is_told(virtual_sound, capsys):
    assert audio_command.main(["check", "--device", "pulse", "--rate", "16000", "--seconds", "4"]) == 1
    assert "nothing but zeros" in capsys.readouterr().out


def test_a_wrong_device_or_time_is_a_sentence(capsys):
    assert audio_command.main(["check", "--seconds", "0.1"]) == 1
    assert "--seconds is 0.1, expected 1 to 3600" in capsys.readouterr().err
