"""Through the browser: a fake microphone asks and interrupts, the page speaks and falls silent."""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import shutil
import subprocess
import sys
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from headless_browser import HeadlessBrowser
from labelled_speech import USER_VOICE
from node_process import PATIENCE_S, running_nodes
from timar_common.wav import read_wav

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed; `make test` installs it")

from rclpy.action import ActionClient  # noqa: E402
from timar_common.base_node import message_type, qos_of  # noqa: E402
from timar_common.topics import TOPICS  # noqa: E402
from timar_msgs.action import Speak  # noqa: E402
from timar_view.page_access import PageAccess  # noqa: E402

pytestmark = [pytest.mark.ros, pytest.mark.browser]

PORT = 18_140
RATE_HZ = 16_000
SILENCE_S, SPEAKING_S = 5.0, 3.0
UTTERANCE_S = 40.0
SILENT_WITHIN_S = 4.0
"""Three seconds of speech interrupt, whatever the check takes them for; the rest is the way of the sound."""
PATIENT_S = 2 * PATIENCE_S


class Conversation:
    """What the graph says meanwhile, and the action that makes the head speak."""

    def __init__(self) -> None:
        rclpy.init()
        self.node = rclpy.create_node("dialogue")
        self.user: list = []
        self.agent: list = []
        self.events: list = []
        self.words: list = []
        self.ends: list = []
        topics = {
            "user/audio_raw": self.user, "agent/audio": self.agent, "turn_events": self.events,
            "user/words": self.words, "agent/utterance_ends": self.ends,
        }  # fmt: skip
        for name, taken in topics.items():
            topic = TOPICS[name]
            self.node.create_subscription(message_type(topic.type_name), name, taken.append, qos_of(topic))
        self.speak = ActionClient(self.node, Speak, "speak")

    def spin_until(self, holds: object, what: str) -> None:
        end = time.monotonic() + PATIENT_S
        while not holds():
            assert time.monotonic() < end, f"{what} did not happen within {PATIENT_S:.0f} s; {self.story()}"
            rclpy.spin_once(self.node, timeout_sec=0.02)

    def story(self) -> str:
        """Say what came so far, for a failure."""
        events = [(e.kind, e.first_sample, round(e.probability, 2)) for e in self.events]
        heard_s = [sum(len(m.samples) for m in taken) / RATE_HZ for taken in (self.user, self.agent)]
        lost_s = sum(m.filled_samples for m in self.user) / RATE_HZ
        words = [message.text for message in self.words if message.is_final]
        ends = [(message.outcome, message.samples_heard) for message in self.ends]
        sound = f"user and agent {heard_s} s, lost {lost_s:.1f} s"
        return f"{sound}, turn events {events}, words {words}, ends {ends}"

    def close(self) -> None:
        self.speak.destroy()
        self.node.destroy_node()
        rclpy.try_shutdown()


@pytest.fixture
def conversation() -> Iterator[Conversation]:
    conversation = Conversation()
    yield conversation
    conversation.close()


def is_served() -> bool:
    """Tell whether the view listens; without a token it answers with a refusal."""
    with (
        contextlib.suppress(OSError),
        contextlib.closing(http.client.HTTPConnection("127.0.0.1", PORT)) as page,
    ):
        page.request("GET", "/")
        return page.getresponse().status == http.HTTPStatus.FORBIDDEN
    return False


def sound_of(messages: list) -> np.ndarray:
    return np.concatenate([np.frombuffer(message.samples, np.int16) for message in messages])


def test_a_user_who_interrupts_through_the_page_silences_the_head(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user says the same again and again: a busy machine once lost so much of his only words that nothing
    interrupted, and the utterance failed instead."""
    speech, rate_hz = soundfile.read(USER_VOICE, dtype="float32", always_2d=True)
    start = round(6.1 * rate_hz)  # where its labels have speech without a pause
    words = speech[start : start + round(SPEAKING_S * rate_hz), 0]
    quiet = np.random.default_rng(0).normal(0, 1e-4, round(SILENCE_S * rate_hz)).astype(np.float32)
    user = tmp_path / "user.wav"
    soundfile.write(user, np.concatenate([quiet, words / np.abs(words).max() * 0.5, quiet]), rate_hz)
    monkeypatch.setenv("TIMAR_PAGE_SECRET", "of this test")
    token = PageAccess("127.0.0.1", secret="of this test").move_token
    said = (6000 * np.sin(np.arange(round(UTTERANCE_S * RATE_HZ)) * 0.2)).astype(np.int16)
    sound_nodes = ["turns_node:TurnsNode", "playback_node:PlaybackNode", "capture_node:CaptureNode"]
    switches = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-3d-apis"]
    switches.append(f"--use-file-for-fake-audio-capture={user}")
    page = {"port": PORT, "page_microphone": True, "page_loudspeaker": True, "echo_cancellation": False}
    with (
        running_nodes(["timar_view.view_node:ViewNode"], page),
        running_nodes(
            [f"timar_audio.{name}" for name in sound_nodes],
            {"capture:source": "browser", "playback:sink": "browser"},
        ),
        HeadlessBrowser((320, 240), PATIENT_S, switches) as browser,
    ):
        conversation.spin_until(conversation.speak.server_is_ready, "the action")
        conversation.spin_until(is_served, "the page")
        browser.go_to(f"http://127.0.0.1:{PORT}/?token={token}")
        browser.wait_for("document.getElementById('station')?.dataset.state === 'idle'")
        goal = Speak.Goal(utterance_id="long", sample_rate=RATE_HZ, samples=array("h", said.tobytes()))
        sent = conversation.speak.send_goal_async(goal)
        conversation.spin_until(sent.done, "the goal's acceptance")
        assert sent.result().accepted
        assert not conversation.user, "sound came before anybody pressed Start"
        browser.click("Start")
        conversation.spin_until(lambda: conversation.user, "the first sound")
        result = sent.result().get_result_async()
        conversation.spin_until(result.done, "the end of the utterance")
        outcome = result.result().result
        count = len(conversation.agent)
        conversation.spin_until(lambda: len(conversation.agent) > count + 50, "a second after it")
        heard, spoken = sound_of(conversation.user), sound_of(conversation.agent)
    assert outcome.outcome == Speak.Result.INTERRUPTED, conversation.story()
    # The head spoke, into the user's silence, and fell silent soon after he had begun to speak.
    assert 1.0 * RATE_HZ < outcome.samples_heard < 0.9 * UTTERANCE_S * RATE_HZ
    loud = np.flatnonzero(np.abs(heard.astype(int)) > 3000)
    begins = loud[np.flatnonzero(np.diff(loud, prepend=-np.inf) > 0.5 * SILENCE_S * RATE_HZ)]
    ends = int(np.nonzero(np.abs(spoken.astype(int)) > 1000)[0][-1])
    ends += conversation.agent[0].first_sample - conversation.user[0].first_sample
    assert 0 < ends - begins[begins < ends][-1] < SILENT_WITHIN_S * RATE_HZ
    lost = sum(message.filled_samples for message in conversation.user)
    assert lost < 0.2 * heard.size


PAGE_LISTENER = """
(async () => {
  const code = `registerProcessor("listener", class extends AudioWorkletProcessor {
    process(inputs) {
      const x = inputs[0][0];
      if (x && x.some((v) => Math.abs(v) > 0.02)) this.port.postMessage(currentTime);
      return true;
    }
  })`;
  const { context, node } = timarStation;
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
  const listener = new AudioWorkletNode(context, "listener");
  window.loud = [];
  listener.port.onmessage = ({ data }) => window.loud.push(data);
  node.connect(listener).connect(context.destination);
  window.listens = true;
})()
"""


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("faster_whisper") is None or shutil.which("espeak-ng") is None,
    reason="faster-whisper or espeak-ng is not installed; make setup-talk",
)
def test_a_conversation_through_the_page_is_answered_and_interrupted(
    conversation: Conversation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`timar talk --audio browser`, whole: the fake microphone asks and interrupts, over and over."""
    quiet = np.random.default_rng(0).normal(0, 3, round(SILENCE_S * RATE_HZ)).astype(np.int16)
    pieces = [quiet]
    for text in ("What can you do for me?", "No, wait. That is enough, thank you very much."):
        path = tmp_path / "line.wav"
        subprocess.run(["espeak-ng", "-v", "en-us+f3", "-s", "150", "-w", str(path), text], check=True)
        pieces += [read_wav(path), quiet]
    user = tmp_path / "user.wav"
    soundfile.write(user, np.concatenate([*pieces, quiet]), RATE_HZ)
    monkeypatch.setenv("TIMAR_PAGE_SECRET", "of this test")
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "SYSTEM_DEFAULT")
    monkeypatch.delenv("DISPLAY", raising=False)
    token = PageAccess("127.0.0.1", secret="of this test").move_token
    switches = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-3d-apis"]
    switches.append(f"--use-file-for-fake-audio-capture={user}")
    command = [sys.executable, "-m", "timar_bringup.talk", "--audio", "browser", "--port", str(PORT)]
    log = tmp_path / "log"
    with (
        log.open("w") as said,
        subprocess.Popen([*command, "--voice", "espeak"], stdout=said, stderr=subprocess.STDOUT) as talk,
    ):
        try:
            conversation.spin_until(is_served, "the page")
            with HeadlessBrowser((320, 240), PATIENT_S, switches) as browser:
                browser.go_to(f"http://127.0.0.1:{PORT}/?token={token}")
                browser.wait_for("document.getElementById('station')?.dataset.state === 'idle'")
                browser.click("Start")
                browser.wait_for("document.getElementById('station').dataset.state === 'running'")
                browser.evaluate(PAGE_LISTENER)
                conversation.spin_until(
                    lambda: any(
                        m.is_final and "what can you do" in m.text.lower() for m in conversation.words
                    ),
                    "the question's words",
                )
                conversation.spin_until(
                    lambda: any(m.outcome == Speak.Result.INTERRUPTED for m in conversation.ends),
                    "the interruption of the answer",
                )
                context_s = browser.evaluate("timarStation.context.currentTime")
                cut = next(m for m in conversation.ends if m.outcome == Speak.Result.INTERRUPTED)
                end_sample = conversation.agent[-1].first_sample
                conversation.spin_until(
                    lambda: conversation.agent[-1].first_sample > end_sample + RATE_HZ, "a second after it"
                )
                loud_s = np.array(browser.evaluate("loud"))
        finally:
            talk.terminate()
            talk.wait(timeout=PATIENCE_S)
    story = f"{conversation.story()}\n{log.read_text()}"
    assert cut.samples_heard > 0.5 * RATE_HZ, story
    # The page spoke about as long as the graph says that the answer was heard, and was silent soon after.
    assert (loud_s < context_s + 0.3).sum() * 128 > 0.3 * cut.samples_heard, story
    assert not ((loud_s > context_s + 0.3) & (loud_s < context_s + 0.6)).any(), story
