"""Text for a voice: sentences cut from a stream of pieces, without what cannot be spoken."""

from __future__ import annotations

import re
import unicodedata

FIRST_CLAUSE_CHARS = 30
"""The first sentence is cut at a comma after so many characters: its sound comes sooner."""
MAX_SENTENCE_CHARS = 240
"""A longer one is cut at a space; a synthesiser makes no sound before it has seen it all."""

_END = re.compile(r"[.!?…。！？؟](?=[\"'”’)\]]*(?:\s|$))[\"'”’)\]]*|[。！？]|\n+")
_CLAUSE = re.compile(r"[,;:–—،](?=\s)")
_MARKUP = re.compile(r"[*_`#~|<>\\^{}\[\]]+")


def speakable(text: str) -> str:
    """Return a text without emoji, control characters and markup; empty when nothing is left to say."""
    kept = "".join(
        letter if unicodedata.category(letter)[0] in "LMNPZ" or letter in "$€£+=%°" else " "
        for letter in unicodedata.normalize("NFKC", text)
    )
    kept = " ".join(_MARKUP.sub(" ", kept).split())
    return kept if any(letter.isalnum() for letter in kept) else ""


class SentenceCutter:
    """Cut a stream of text into sentences as soon as each is complete.

    Args:
        max_chars: Text beyond this is left out; `is_full` tells.
    """

    def __init__(self, max_chars: int) -> None:
        self.is_full = False
        """Whether text was left out, and no more is wanted."""
        self._left = max_chars
        self._text = ""
        self._is_first = True

    def push(self, piece: str) -> list[str]:
        """Take a piece of text; return the sentences that it completes."""
        self.is_full |= len(piece) > self._left
        self._text += piece[: self._left]
        self._left = max(0, self._left - len(piece))
        return self._cut()

    def flush(self) -> list[str]:
        """Return what is left."""
        sentences = self._cut()
        if rest := speakable(self._text):
            sentences.append(rest)
        self._text = ""
        return sentences

    def _cut(self) -> list[str]:
        sentences = []
        while (end := self._end()) is not None:
            if sentence := speakable(self._text[:end]):
                sentences.append(sentence)
                self._is_first = False
            self._text = self._text[end:]
        return sentences

    def _end(self) -> int | None:
        """Return where the text is to be cut next; None where it must be waited for."""
        # What ends a sentence at the very end of the text may be the point of 3.14.
        ends = [found.end() for found in _END.finditer(self._text) if found.end() < len(self._text)]
        end = min(ends, default=None)
        if self._is_first:
            clause = _CLAUSE.search(self._text, FIRST_CLAUSE_CHARS)
            if clause is not None and (end is None or clause.end() < end):
                return clause.end()
        if (len(self._text) if end is None else end) <= MAX_SENTENCE_CHARS:
            return end
        space = self._text.rfind(" ", 1, MAX_SENTENCE_CHARS)
        return space if space > 0 else MAX_SENTENCE_CHARS
