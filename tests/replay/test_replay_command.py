"""The command line: conditions, scenarios, settings, and the report as a browser shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from timar_bag.bag import BagReader
from timar_bag.commands import bag as bag_command
from timar_bag.make_bag import WholeSound, read_labels, write_bag
from timar_replay.replay_command import replay as command
from timar_replay.replay_settings import ReplaySettings
from timar_replay.scenario import read_scenario, run_scenarios
from timar_report.conditions import Condition, UnknownValueError
from timar_report.joints import limits_of
from timar_report.moments import worst_moments
from timar_report.score import score_bag

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
NUMBERS = {"late_turns": 2, "by_floor": {"idle": {"still_share": 0.5}}, "lips": {"lag_ms": None}}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("late_turns > 0", True),
        ("late_turns > 2", False),
        ("0 < late_turns <= 2", True),
        ("by_floor.idle.still_share * 2 == 1 and not late_turns == 3", True),
        ("late_turns > 5 or by_floor.idle.still_share < -0.1", False),
    ],
)
def test_condition_is_read_as_arithmetic(text: str, holds: bool):
    assert Condition(text).holds(NUMBERS) is holds


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true') > 0", "late_turns", "[1] > 0", "x() > 1", "late_turns > 'a'", "1 >",
        "a if b else c",
    ],
)  # fmt: skip
def test_condition_that_could_run_something_is_refused(text: str):
    with pytest.raises(ValueError, match=r"condition|compares nothing"):
        Condition(text)


def test_condition_names_the_nearest_number():
    with pytest.raises(ValueError, match="did you mean late_turns"):
        Condition("late_turn > 0").holds(NUMBERS)


def test_condition_on_what_cannot_be_told_neither_holds_nor_fails():
    with pytest.raises(UnknownValueError, match=r"lips\.lag_ms"):
        Condition("lips.lag_ms > 0").holds(NUMBERS)


def test_parameter_of_a_node_is_set_by_name_and_a_misspelt_one_refused(tmp_path: Path):
    changed = ReplaySettings().changed(["inference.temperature=0.5", "turns.pause_ms=700"])
    assert (changed.inference.temperature, changed.turns.pause_ms) == (0.5, 700)
    with pytest.raises(ValueError, match="inference has no parameter 'temprature'"):
        ReplaySettings().changed(["inference.temprature=0.5"])
    with pytest.raises(ValueError, match=r"turns.pause_ms is set to 'long'"):
        ReplaySettings().changed(["turns.pause_ms=long"])
    file = tmp_path / "mine.yaml"
    file.write_text(
        "/**/turns:\n  ros__parameters:\n    pause_ms: 800\n/**/view:\n  ros__parameters: {rate_hz: 5}\n"
    )
    assert ReplaySettings().with_parameters(file).turns.pause_ms == 800


def test_every_shipped_scenario_reads():
    files = sorted((EXAMPLES / "scenarios").glob("*.yaml"))
    assert len(files) >= 6
    assert all(read_scenario(file).fail_if for file in files)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("make: {}\nthresholds: []\n", "has no key 'thresholds'"),
        ("seed: 0\n", "either bag or make"),
        ("make: {}\ndamage: [burnt]\n", "no damage 'burnt'"),
        ("make: {}\nfail_if: ['late_turns']\n", "compares nothing"),
        ("make: {}\npolicy: fast\n", "the policy is 'fast'"),
    ],
)
def test_scenario_with_a_slip_is_refused_with_its_file(text: str, said: str, tmp_path: Path):
    file = tmp_path / "mine.yaml"
    file.write_text(text, "utf-8")
    with pytest.raises(ValueError, match=said) as error:
        read_scenario(file)
    assert "mine.yaml" in str(error.value)


@pytest.mark.slow
def test_scenario_fails_by_its_own_threshold(small_model: Path, tmp_path: Path):
    for name, condition in (("calm", "late_turns > 0"), ("strict", "turns > 1")):
        (tmp_path / f"{name}.yaml").write_text(
            f"make: {{seconds: 2}}\nfail_if: ['{condition}']\nset: {{inference.preview_frames: 0}}\n", "utf-8"
        )
    outcomes = run_scenarios([tmp_path], tmp_path / "out", 1, str(small_model), "torch")
    assert {outcome.name: outcome.failures for outcome in outcomes} == {"calm": [], "strict": ["turns > 1"]}


@pytest.mark.slow
def test_command_ends_with_1_when_a_condition_holds_and_2_when_it_cannot_be_told(
    small_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    write_bag(tmp_path / "talk", WholeSound(np.zeros(32_000, np.int16)))
    typed = [str(tmp_path / "talk"), "--model", str(small_model), "--engine", "torch", "--no-report"]
    typed += ["--out", str(tmp_path / "out")]
    assert command([*typed, "--fail-if", "late_turns > 0"]) == 0
    assert command([*typed, "--fail-if", "turns > 3"]) == 1
    assert command([*typed, "--fail-if", "lips.lag_ms > 3"]) == 2
    assert command([*typed, "--fail-if", "nonsense > 3"]) == 2
    assert command([str(tmp_path / "nowhere")]) == 2
    assert "there is no bag at" in capsys.readouterr().err
    run = json.loads((tmp_path / "out" / "replay.json").read_text())
    assert run["times_real_time_per_core"] > 0


@pytest.mark.slow
def test_sound_of_which_nothing_says_what_it_is_is_asked_for_in_one_sentence(
    small_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """12 s of 44.1 kHz stereo without audio_info once became 66 s of 16 kHz mono."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    name = "audio_common_msgs/msg/AudioData"
    store.register(get_types_from_msg("uint8[] data", name))
    block = np.zeros((441, 2), "<i2").tobytes()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection("/audio", name, typestore=store)
        for number in range(200):
            message = store.types[name](data=np.frombuffer(block, np.uint8))
            receive_ns = 1_795_000_000_000_000_000 + number * 10_000_000
            writer.write(connection, receive_ns, store.serialize_cdr(message, name))
    typed = [str(tmp_path / "bag"), "--model", str(small_model), "--engine", "torch", "--no-report"]
    assert command([*typed, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "/audio brings 1764 bytes a message and nothing says what they mean" in said
    assert "--sound-layout, such as S16LE,16000,1" in said
    assert "Traceback" not in said
    assert command([*typed, "--out", str(tmp_path / "again"), "--sound-layout", "S16LE,44100,2"]) == 0
    with BagReader(tmp_path / "again" / "bag") as reader:
        heard = sum(len(entry.message.samples) for entry in reader.messages({"user/audio"}))
    assert heard == pytest.approx(2 * 16_000, abs=640)


def test_wav_becomes_a_bag_and_a_bag_training_data_by_command(tmp_path: Path):
    import soundfile

    for name in ("user", "agent"):
        soundfile.write(tmp_path / f"{name}.wav", np.full(48_000, 0.1), 24_000)
    rttm = tmp_path / "labels.rttm"
    rttm.write_text("SPEAKER file 1 0.500 1.000 <NA> <NA> user <NA> <NA>\n")
    typed = [str(tmp_path / "user.wav"), str(tmp_path / "agent.wav"), str(tmp_path / "bag")]
    assert bag_command(["from-wav", *typed, "--labels", str(rttm)]) == 0
    assert bag_command(["to-dualtalk", str(tmp_path / "bag"), str(tmp_path / "clip" / "one")]) == 0
    assert soundfile.info(tmp_path / "clip" / "one_speaker2.wav").frames == 32_000
    assert bag_command(["from-wav", *typed]) == 1  # the bag exists


def test_label_line_that_cannot_be_read_is_named(tmp_path: Path):
    file = tmp_path / "labels.rttm"
    file.write_text("SPEAKER file 1 soon 1.0 <NA> <NA> user\n")
    with pytest.raises(ValueError, match="line 1 of"):
        read_labels(file, "user", "agent")


def test_worst_moments_point_to_the_late_turns_in_bag_time(make_bag: Callable[..., Path]):

    score = score_bag(make_bag(late_turns=(10,)), limits_of("timar_head"))
    late = [moment for moment in worst_moments(score) if "late" in moment.what]
    assert [moment.seconds for moment in late] == [2.0]
    first_ns = int(score.frames.conversation.voices["user/audio"].block_stamp_ns[0])
    assert late[0].bag_ns == pytest.approx(first_ns + 2 * 10**9, abs=10**6)


@pytest.mark.browser
@pytest.mark.slow
def test_report_opens_without_network_and_zooms_to_a_moment(make_bag: Callable[..., Path], tmp_path: Path):
    from headless_browser import HeadlessBrowser
    from timar_report.report import write_report

    score = score_bag(make_bag(late_turns=(10,)), limits_of("timar_head"))
    path = tmp_path / "report.html"
    write_report(score, score.numbers, path, "a <b>talk</b>")
    text = path.read_text("utf-8")
    assert "<h1>a &lt;b&gt;talk&lt;/b&gt;</h1>" in text
    with HeadlessBrowser((1200, 900)) as browser:
        browser.go_to(path.as_uri())
        browser.wait_for("document.querySelectorAll('#plot .scatterlayer .trace').length > 5")
        assert browser.evaluate("document.querySelectorAll('.moment img').length") >= 1
        assert browser.evaluate("[...document.images].every(image => image.complete && image.naturalWidth)")
        browser.evaluate("document.querySelector('.moment').click()")
        browser.wait_for("Math.abs(document.getElementById('plot').layout.xaxis.range[1] - "
                         "document.getElementById('plot').layout.xaxis.range[0] - 6) < 1e-6")  # fmt: skip
        assert (
            browser.evaluate(
                "performance.getEntriesByType('resource').filter(e => e.name.startsWith('http')).length"
            )
            == 0
        )
