"""Parameters of the playback node."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option


@dataclasses.dataclass(frozen=True)
class PlaybackConfig:
    """The playback node."""

    source: str = option(
        "speech",
        "Where the agent's speech comes from: speech (agent/speech and the action speak), file, none, or an "
        "installed speech source by its name.",
    )
    file: str = option(
        "", "Sound file that plays the agent, when source is file; its position is the conversation's."
    )
    channel: int = number(-1, "Channel of the file, from 0; -1 mixes all.", -1, 63)
    sink: str = option(
        "null",
        "Where the agent's audio goes; browser: to the view's page; null: heard by nobody, and yet it keeps "
        "its time.",
        choices=("null", "speaker", "browser", "file"),
    )
    device: str = option(
        "", "Loudspeaker by name (a part of it is enough) or index; empty: the system's default."
    )
    speaker_rate_hz: int = number(
        0, "Rate the loudspeaker is opened at; 0: the device's own.", 0, 192_000, "Hz"
    )
    speaker_buffer_ms: int = number(
        60, "The loudspeaker's buffer: what is in it is heard even after a barge-in.", 10, 1000, "ms"
    )
    page_buffer_ms: int = number(
        120, "How far ahead the browser's page is given the voice; longer where it came late.", 40, 600, "ms"
    )
    sink_file: str = option("", "WAV file that takes what is heard, when sink is file.")
    stop_on_barge_in: bool = option(
        True, "Whether the user's speech lowers, pauses and ends what is said (turn events)."
    )
    fade_ms: int = number(20, "How long speech fades when it is lowered, paused or cut.", 1, 200, "ms")
    lowered_db: float = number(
        12.0, "By how much speech is lowered while the user speaks into it.", 0.0, 60.0, "dB"
    )
    longest_pause_ms: int = number(
        5000, "Speech that is paused goes on after so long when no turn event says how.", 100, 60_000, "ms"
    )
    start_lead_ms: int = number(
        320, "How far ahead an utterance begins, so that the face can be made for it.", 20, 2000, "ms"
    )
    prebuffer_ms: int = number(
        120, "So much of an utterance must have come before it begins or continues.", 0, 5000, "ms"
    )
    max_waiting_s: float = number(
        60.0, "How much speech may wait to be planned; more is rejected.", 1.0, 600.0, "s"
    )
    speech_patience_s: float = number(
        10.0, "An unfinished utterance to which nothing comes for so long has failed.", 0.5, 600.0, "s"
    )
    plan_ahead_s: float = number(2.0, "How far ahead of the clock speech is planned.", 1.0, 10.0, "s")
    plan_chunk_ms: int = number(200, "Length of one planned chunk.", 20, 1000, "ms")
    block_ms: int = number(20, "Length of a block of agent/audio.", 10, 100, "ms")
    wait_for_subscribers: int = number(
        0,
        "A file joins the clock only when so many subscriptions to agent/audio have matched.",
        0,
        100,
        formerly=("wait_for_listeners",),
    )
    wait_for_plan_subscribers: int = number(
        0, "The same for subscriptions to agent/audio_planned.", 0, 100, formerly=("wait_for_plan_listeners",)
    )
    wait_for_page: bool = option(
        False, "With sink browser, a file joins only when a page plays; wait_timeout_s bounds that, too."
    )
    wait_timeout_s: float = number(
        8.0, "After so long it joins without them, with a warning.", 0.0, 300.0, "s"
    )
    free_run_after_ms: int = number(
        100, "Without user/audio_raw for so long, the clock continues by machine time.", 40, 5000, "ms"
    )

    def __post_init__(self) -> None:
        check(self)
        for choice, path in (("source", "file"), ("sink", "sink_file")):
            if getattr(self, choice) == "file" and not getattr(self, path):
                raise ValueError(
                    f"{choice} is 'file' but {path} is empty; give the path of a WAV file as {path}"
                )
