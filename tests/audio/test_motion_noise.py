"""The servos' own noise is predicted from their speeds and is no speech. All noise here is synthetic."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from labelled_speech import USER_VOICE
from timar_audio.floor import Kind, Speaker
from timar_audio.levels import level_dbfs
from timar_audio.motion_noise import (
    JointNoise,
    MotionGate,
    MotionNoise,
    fit_motion_noise,
    read_motion_noise,
    speeds_of,
    to_yaml,
)
from timar_audio.turns import Turns
from timar_audio.turns_config import TurnsConfig

FRAME = 320
NAMES = ["neck_pitch", "neck_yaw", "jaw"]
# Power at full scale 1, at 1 rad/s: a loud neck, a softer one, a jaw that is hardly heard.
TRUE = {"neck_pitch": (0.0, 1e-4), "neck_yaw": (2e-5, 0.0), "jaw": (1e-8, 0.0)}
ROOM = 10 ** (-60 / 10)


def whine(speeds: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the sound of joints at (n, 3) speeds, one row for 20 ms: gear noise, harmonics and all."""
    power = np.full(len(speeds), ROOM)
    for column, (linear, square) in enumerate(TRUE[name] for name in NAMES):
        speed = np.abs(speeds[:, column])
        power = power + linear * speed + square * speed**2
    gain = np.repeat(np.sqrt(power), FRAME)
    times = np.arange(gain.size) / 16_000
    buzz = sum(np.sin(2 * np.pi * 110 * k * times) / k for k in range(1, 12))
    return gain * (0.6 * rng.standard_normal(gain.size) + 0.8 * buzz / buzz.std())


def pcm(sound: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(sound * 32_768), -32_768, 32_767).astype(np.int16)


def calibration(rng: np.random.Generator) -> np.ndarray:
    """Ten seconds: a second of rest, then each joint swings for three, faster and slower."""
    speeds = np.zeros((500, 3))
    for column in range(3):
        part = slice(50 + 150 * column, 200 + 150 * column)
        speeds[part, column] = 1.5 * np.sin(2 * np.pi * np.arange(150) / 50) * np.linspace(0.2, 1.0, 150)
    return speeds


def calibrated(seed: int = 0) -> MotionNoise:
    rng = np.random.default_rng(seed)
    speeds = calibration(rng)
    sound = pcm(whine(speeds, rng)).reshape(-1, FRAME)
    return fit_motion_noise(NAMES, np.abs(speeds), np.array([level_dbfs(frame) for frame in sound]))


def test_ten_seconds_of_motion_predict_each_joints_noise_at_any_speed():
    noise = calibrated()
    assert noise.noise_floor_dbfs == pytest.approx(-60.0, abs=1.0)
    for name in ("neck_pitch", "neck_yaw"):
        for speed in (0.3, 1.0, 1.5):
            linear, square = TRUE[name]
            true_dbfs = 10 * np.log10(linear * speed + square * speed**2)
            assert noise.level_dbfs({name: -speed}) == pytest.approx(true_dbfs, abs=2.0), (name, speed)
    assert noise.level_dbfs({"jaw": 1.0}) < -60.0
    assert noise.level_dbfs({name: 0.0 for name in NAMES}) == -120.0
    both = noise.level_dbfs({"neck_pitch": 1.0, "neck_yaw": 1.0})
    assert both == pytest.approx(10 * np.log10(1e-4 + 2e-5), abs=2.0)


def decided(speeds: np.ndarray, sound: np.ndarray, gate: MotionGate | None) -> list:
    turns, events = Turns(TurnsConfig()), []
    for place in range(0, sound.size, FRAME):
        row = speeds[place // FRAME]
        at_ns = place * 62_500
        noise_floor_dbfs = -120.0
        if gate is not None:
            gate.observe(dict(zip(NAMES, row.tolist(), strict=True)), at_ns)
            noise_floor_dbfs = gate.noise_floor_dbfs(at_ns)
        events += turns.push(Speaker.USER, place, sound[place : place + FRAME], 0, noise_floor_dbfs).events
    return events + turns.finish().events


def moving(seconds: int, rng: np.random.Generator) -> np.ndarray:
    """Short moves of the neck with rests between, as a head makes that talks."""
    speeds = np.zeros((seconds * 50, 3))
    for start in range(50, len(speeds) - 100, 100):
        length = int(rng.integers(20, 50))
        bump = np.sin(np.pi * np.arange(length) / length)
        speeds[start : start + length, int(rng.integers(0, 2))] = rng.uniform(0.6, 1.5) * bump
    return speeds


def test_the_heads_own_motion_starts_no_turn_that_it_would_start_without_the_gate():
    rng = np.random.default_rng(5)
    speeds = moving(60, rng)
    sound = pcm(whine(speeds, rng))
    starts = [
        sum(event.kind is Kind.START for event in decided(speeds, sound, gate))
        for gate in (None, MotionGate(calibrated()))
    ]
    assert starts[0] >= 10
    assert starts[1] <= 1


def test_a_voice_above_the_motion_is_heard_all_the_same():
    """The neck never rests, its noise 15 dB below the voice."""
    voice = soundfile.read(USER_VOICE)[0][: 20 * 16_000]
    rng = np.random.default_rng(6)
    speeds = np.zeros((voice.size // FRAME, 3))
    speeds[:, 1] = 0.6 + 0.4 * np.sin(np.arange(len(speeds)) / 30)
    noise = whine(speeds, rng)
    loud = np.sqrt((voice**2)[np.abs(voice) > 0.01].mean())
    voice = voice / loud * np.sqrt((noise**2).mean()) * 10 ** (15 / 20)
    found_s = {}
    for name, sound, gate in (
        ("alone", voice, None),
        ("moving", voice + noise, MotionGate(calibrated())),
    ):
        events = decided(speeds, pcm(sound), gate)
        ends = [event for event in events if event.kind is Kind.END]
        found_s[name] = sum(event.end_sample - event.first_sample for event in ends) / 16_000
    assert found_s["moving"] > 0.7 * found_s["alone"]


def test_prediction_and_sound_may_come_up_to_150_ms_apart_and_old_motion_is_forgotten():
    noise = MotionNoise({"jaw": JointNoise(1e-4, 0.0)}, 3.0, -60.0)
    gate = MotionGate(noise)
    assert gate.noise_floor_dbfs(0) == -120.0
    gate.observe({"jaw": 1.0}, 1_000_000_000)
    gate.observe({"jaw": 0.0}, 1_020_000_000)
    assert gate.noise_floor_dbfs(1_100_000_000) == pytest.approx(-37.0)
    assert gate.noise_floor_dbfs(880_000_000) == pytest.approx(-37.0)
    assert gate.noise_floor_dbfs(1_200_000_000) == -120.0


def test_a_calibration_is_written_and_read(tmp_path):
    noise = calibrated()
    path = tmp_path / "motion_noise.yaml"
    path.write_text(to_yaml(noise))
    read = read_motion_noise(path)
    for name in NAMES:
        assert read.level_dbfs({name: 0.8}) == pytest.approx(noise.level_dbfs({name: 0.8}), abs=0.01)
    path.write_text(to_yaml(noise).replace("noise_floor_dbfs", "floor_dbfs"))
    with pytest.warns(FutureWarning, match="floor_dbfs is now called noise_floor_dbfs"):
        assert read_motion_noise(path) == read
    path.write_text(to_yaml(noise) + "colour: red\n")
    with pytest.raises(ValueError, match=r"line 8, top level: unknown key 'colour'"):
        read_motion_noise(path)


@pytest.mark.parametrize(
    ("speeds", "levels", "words"),
    [
        (np.ones((10, 3)), np.zeros(10), "10 frames of sound .* expected at least 200"),
        (np.zeros((300, 3)), np.zeros(300), "no joint moved faster than 0.02 rad/s"),
        (np.full((300, 3), np.nan), np.zeros(300), "not finite; does the driver report speeds"),
    ],
)
def test_what_teaches_nothing_is_refused(speeds, levels, words):
    with pytest.raises(ValueError, match=words):
        fit_motion_noise(NAMES, speeds, levels)


def test_joint_states_without_velocities_are_refused():
    with pytest.raises(ValueError, match="0 velocities for 2 joints; the driver must report speeds"):
        speeds_of(["a", "b"], [])
