"""Reader of the AMI corpus's manual annotations: words, head gestures and gaze targets of people in meetings.

Reads the official archive (``ami_public_manual_1.6.2.zip``) or its unpacked folder, any meetings of it.
AMI Meeting Corpus, the AMI Consortium, CC BY 4.0, https://groups.inf.ed.ac.uk/ami.
"""

from __future__ import annotations

import collections
import dataclasses
import math
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

GESTURE_FOLDER, WORD_FOLDER, GAZE_FOLDER = "headGesture", "words", "focus"
KIND_OF_FORM = {"nod": "nod", "nodshake": "nod", "shake": "shake", None: "tilt"}
"""Kind of head gesture by AMI's form. Gestures without a form are neither nods nor shakes."""
PURPOSES = {
    "concord_signal", "discord_signal", "negative_signal", "emphasis_signal", "deixis_signal", "turn_signal",
    "other_comm_head",
}  # fmt: skip
STILL, OFF_CAMERA = "no_comm_head", "off_camera"
JOIN_S = 0.2
"""Gestures of one kind closer than this are one gesture [s]."""
FEWEST_GESTURES = 5
"""People with fewer were probably not annotated."""


class BadArchiveError(ValueError):
    """An archive of annotations is not what its layout promises; the message names file and remedy."""


class Span(NamedTuple):
    """A stretch of time."""

    start_s: float
    end_s: float


class Word(NamedTuple):
    """A spoken word, and the punctuation after it."""

    start_s: float
    end_s: float
    text: str
    mark: str


class HeadEvent(NamedTuple):
    """A head gesture."""

    start_s: float
    end_s: float
    kind: str
    """nod, shake or tilt (of no stated form)."""
    purpose: str
    """AMI's type, such as concord_signal."""


class GazeTarget(NamedTuple):
    """Where somebody looks."""

    start_s: float
    end_s: float
    target: str
    """Another participant's letter, or a place such as table; empty where unspecified."""


@dataclasses.dataclass(frozen=True)
class Participant:
    """One participant in one meeting."""

    meeting: str
    letter: str
    name: str
    """Global name: the same person in several meetings."""
    words: tuple[Word, ...]
    events: tuple[HeadEvent, ...]
    """In order, those of one kind less than JOIN_S apart joined."""
    annotated: tuple[Span, ...]
    """Where head gestures are annotated: on camera."""
    gaze: tuple[GazeTarget, ...]

    @property
    def end_s(self) -> float:
        """Return where words and annotation end [s]."""
        return max([word.end_s for word in self.words] + [span.end_s for span in self.annotated], default=0.0)

    @property
    def is_annotated(self) -> bool:
        """Return whether enough gestures are marked that the others can be taken for absent."""
        return len(self.events) >= FEWEST_GESTURES

    def of_kind(self, kind: str) -> list[HeadEvent]:
        """Return the gestures of one kind."""
        return [event for event in self.events if event.kind == kind]


@dataclasses.dataclass(frozen=True)
class Meeting:
    """A meeting's participants."""

    name: str
    participants: tuple[Participant, ...]

    @property
    def series(self) -> str:
        """Return the name without its last letter: the same people meet in a, b, c, d."""
        return series_of(self.name)

    def others(self, of: Participant) -> list[Participant]:
        """Return everybody else."""
        return [other for other in self.participants if other is not of]


def series_of(meeting: str) -> str:
    """Return the series of a meeting by its name."""
    return re.sub(r"(?<=\d)[a-z]$", "", meeting)


def joined(spans: Iterable[tuple], gap_s: float) -> list[tuple]:
    """Join tuples (start, end, ...) that lie less than a gap apart; the first one's further fields stay."""
    out: list[tuple] = []
    for span in sorted(spans):
        if out and span[0] - out[-1][1] < gap_s:
            out[-1] = (out[-1][0], max(out[-1][1], span[1]), *out[-1][2:])
        else:
            out.append(tuple(span))
    return out


def read_meetings(
    path: Path, log: Callable[[str], None] = lambda message: None, only: str | None = None
) -> list[Meeting]:
    """Read every meeting of which somebody's head gestures are annotated.

    Args:
        path: The archive or its unpacked folder.
        log: Called with a sentence for each thing that was left out.
        only: Name of a meeting; the others are not read.

    Raises:
        BadArchiveError: There is no such archive, it has another layout, or it holds no nod.
    """
    files = _ArchiveFiles(path)
    letters = collections.defaultdict(set)
    for folder in (WORD_FOLDER, GESTURE_FOLDER):
        for name in files.names(folder):
            meeting, letter, *_ = name.split(".")
            letters[meeting].add(letter)
    if not files.names(GESTURE_FOLDER):
        raise BadArchiveError(
            f"{path} has no file {GESTURE_FOLDER}/MEETING.SPEAKER.head.xml, expected AMI's manual "
            "annotations (ami_public_manual_1.6.2); give that archive or its unpacked folder"
        )
    names = _global_names(files)
    meetings = []
    for meeting in sorted(letters) if only is None else [only]:
        heads = [
            letter for letter in letters[meeting] if files.has(GESTURE_FOLDER, f"{meeting}.{letter}.head.xml")
        ]
        silent = [
            letter for letter in sorted(letters[meeting])
            if not files.has(WORD_FOLDER, f"{meeting}.{letter}.words.xml")
        ]  # fmt: skip
        if not heads:
            continue
        if silent:
            log(
                f"{meeting} is left out: {WORD_FOLDER}/{meeting}.{silent[0]}.words.xml is missing, so that "
                "nobody knows when that participant spoke"
            )
            continue
        people = (_participant(files, meeting, letter, names, log) for letter in sorted(letters[meeting]))
        meetings.append(Meeting(meeting, tuple(people)))
    if only is None and not any(
        person.of_kind("nod") for meeting in meetings for person in meeting.participants
    ):
        raise BadArchiveError(
            f"{path} holds no annotated nod in {len(meetings)} meetings, expected at least one"
        )
    return meetings


class _ArchiveFiles:
    """Files of a zip archive or a folder by their last two path parts."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if path.is_dir():
            self._read: Callable[[str], bytes] = lambda name: (path / name).read_bytes()
            names = [str(file.relative_to(path)) for file in path.rglob("*.xml")]
        else:
            try:
                archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise BadArchiveError(
                    f"{path} is neither a zip archive nor a folder ({error}); give AMI's manual annotations"
                ) from error
            self._read, names = archive.read, archive.namelist()
        self._files = {tuple(Path(name).parts[-2:]): name for name in names if name.endswith(".xml")}

    def names(self, folder: str) -> list[str]:
        return sorted(name for parent, name in self._files if parent == folder)

    def has(self, folder: str, name: str) -> bool:
        return (folder, name) in self._files

    def elements(self, folder: str, name: str) -> Iterable[ElementTree.Element]:
        """Return the elements of a file; none when it is missing."""
        if not self.has(folder, name):
            return ()
        try:
            return ElementTree.fromstring(self._read(self._files[folder, name]))
        except (ElementTree.ParseError, zipfile.BadZipFile) as error:
            raise BadArchiveError(
                f"{folder}/{name} in {self._path} is no XML ({error}); unpack or download the archive again"
            ) from error


def _global_names(files: _ArchiveFiles) -> dict[tuple[str, str], str]:
    return {
        (meeting.get("observation", ""), speaker.get("nxt_agent", "")): speaker.get("global_name", "")
        for meeting in files.elements("corpusResources", "meetings.xml")
        for speaker in meeting
    }


def _participant(
    files: _ArchiveFiles, meeting: str, letter: str, names: dict, log: Callable[[str], None]
) -> Participant:
    file = f"{meeting}.{letter}.words.xml"
    words = list(_words(files.elements(WORD_FOLDER, file)))
    events, annotated, unknown = [], [], collections.Counter[str]()
    file = f"{GESTURE_FOLDER}/{meeting}.{letter}.head.xml"
    reversed_count = 0
    for element in files.elements(*file.split("/")):
        span, purpose, form = _span(element), element.get("type"), element.get("form") or None
        if span is None:
            reversed_count += 1
        elif purpose in PURPOSES and form in KIND_OF_FORM:
            events.append(HeadEvent(*span, KIND_OF_FORM[form], str(purpose)))
            annotated.append(span)
        elif purpose == STILL:
            annotated.append(span)
        elif purpose != OFF_CAMERA:
            unknown[f"type {purpose!r}, form {form!r}"] += 1
    if reversed_count:
        log(f"{file}: {reversed_count} events that end before they start, or lack a time, are left out")
    for what, count in unknown.items():
        log(f"{file}: {count} events of the unknown {what} count as not annotated")
    joint = [
        event for kind in sorted(set(KIND_OF_FORM.values()))
        for event in joined((event for event in events if event.kind == kind), JOIN_S)
    ]  # fmt: skip
    return Participant(
        meeting, letter, names.get((meeting, letter)) or f"{series_of(meeting)}{letter}",
        tuple(words), tuple(sorted(HeadEvent(*event) for event in joint)),
        tuple(Span(*span) for span in joined(annotated, 0.01)),
        tuple(_gaze(files.elements(GAZE_FOLDER, f"{meeting}.{letter}.foa.xml"))),
    )  # fmt: skip


def _words(elements: Iterable[ElementTree.Element]) -> list[Word]:
    words: list[Word] = []
    for element in elements:
        text, span = (element.text or "").strip(), _span(element)
        if element.tag != "w":
            continue
        if element.get("punc") == "true":
            if words:
                words[-1] = words[-1]._replace(mark=text)
        elif text and span is not None and span[1] > span[0]:
            words.append(Word(*span, text.replace("_", " "), ""))
    return sorted(words)


def _gaze(elements: Iterable[ElementTree.Element]) -> Iterator[GazeTarget]:
    for element in elements:
        if (span := _span(element)) is not None:
            yield GazeTarget(*span, element.get("nxt_agent") or element.get("place") or "")


def _span(element: ElementTree.Element) -> Span | None:
    """Return an element's time; None where it lacks one, is not finite, or ends before it starts."""
    try:
        span = Span(float(element.get("starttime", "")), float(element.get("endtime", "")))
    except ValueError:
        return None
    return span if 0 <= span.start_s <= span.end_s < math.inf else None
