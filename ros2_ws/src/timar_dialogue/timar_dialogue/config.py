"""Parameters of the dialogue node."""

from __future__ import annotations

import dataclasses

from timar_common.config import check, number, option

INSTRUCTION = "You are a friendly robot head. Answer what you hear in one or two short spoken sentences."


@dataclasses.dataclass(frozen=True)
class DialogueConfig:
    """What understands, what answers, and what speaks."""

    dialogue: str = option(
        "built-in", "What answers: built-in, chat, realtime, an installed dialogue, or module:Class."
    )
    llm: str = option(
        "", "Base URL of the server for chat (http://HOST/v1) or realtime (ws://HOST/v1/realtime)."
    )
    llm_model: str = option("", "Model of that server.")
    llm_hears: bool = option(False, "Whether chat is sent the user's sound beside the words.")
    instruction: str = option(INSTRUCTION, "What the server is told about its part.")
    patience_s: float = number(10.0, "Wait for a server's next piece of an answer.", 0.5, 120.0, "s")
    voice: str = option(
        "auto",
        "What speaks: auto (Piper, else espeak-ng), espeak, a Piper voice by path or by name in its hub, an "
        "installed voice, or module:Class.",
    )
    recogniser: str = option(
        "auto",
        "What understands: auto (Whisper tiny.en), none, a Whisper model by path, size or name in its hub, "
        "an installed recogniser, or module:Class.",
    )
    language: str = option("en", "Language of the user, as Whisper and espeak-ng call it.")
    threads: int = number(1, "Threads of the recogniser.", 1, 16)
    pause_ms: int = number(
        100, "A pause of the user after which what he said so far is recognised ahead.", 20, 1000, "ms"
    )
    greeting: str = option("", "What the head says at first; empty: nothing.")
    not_understood: str = option(
        "Sorry, I did not understand that.", "What it says when no words were found; empty: nothing."
    )
    max_answer_chars: int = number(1500, "An answer is cut after so many characters.", 50, 20_000)

    def __post_init__(self) -> None:
        check(self)
        if self.dialogue in ("chat", "realtime") and not self.llm:
            raise ValueError(f"dialogue is {self.dialogue!r} and llm is empty; give the URL of its server")
