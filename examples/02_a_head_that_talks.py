"""A dialogue of your own: this one turns what you say round.

    PYTHONPATH=examples make talk ARGS="--dialogue 02_a_head_that_talks:Mirror"

Microphone, recogniser, voice, turns and interruptions are those of `make talk` (docs/dialogue.md).
"""

from collections.abc import Iterator

from timar_dialogue.dialogues import Act, Heard, PlainDialogue


class Mirror(PlainDialogue):
    """Answer with the user's words, last one first, and nod at a question."""

    def answer(self, heard: Heard) -> Iterator[str | Act]:
        """Yield an answer piece by piece; each sentence is spoken as soon as it is complete."""
        if heard.text.endswith("?"):
            yield Act.NOD
        yield "You said, the other way round: "
        yield " ".join(reversed(heard.text.rstrip(".?!").split())) + "."

    def was_heard(self, text: str, seconds: float, *, is_whole: bool) -> None:
        """Learn what was heard of the answer: less than was meant, if the user interrupted."""
        if not is_whole:
            self.cut_at = text
