"""AMI's annotations: what is read, what is left out with a sentence, and what is refused."""

import zipfile

import numpy as np
import pytest
from made_archive import write_archive
from timar_training.corpora.ami import BadArchiveError, read_meetings, series_of
from timar_training.preparation.annotated import annotated_tracks, folds_by_series


def test_an_archive_and_its_unpacked_folder_say_the_same(tmp_path):
    archive = write_archive(tmp_path / "made.zip", meetings=2)
    with zipfile.ZipFile(archive) as file:
        file.extractall(tmp_path / "folder")
    assert read_meetings(archive) == read_meetings(tmp_path / "folder")


def test_words_gestures_gaze_and_names_are_read(tmp_path):
    meeting = read_meetings(write_archive(tmp_path / "made.zip", meetings=1))[0]
    person = meeting.participants[0]
    assert (meeting.name, meeting.series) == ("XX1000a", "XX1000")
    assert person.name == "P0A"
    assert person.words[0].mark == "."
    assert {event.kind for event in person.events} == {"nod", "shake", "tilt"}
    assert person.gaze[0].target == "B"
    assert len(meeting.others(person)) == 3


def test_off_camera_time_is_masked_and_few_gestures_count_as_no_annotation(tmp_path):
    extra = '<head starttime="30" endtime="40" type="off_camera"/>'
    archive = write_archive(
        tmp_path / "made.zip", meetings=1, off_camera=(30, 40), few_for="D", extra={"A": extra}
    )
    tracks = annotated_tracks(read_meetings(archive))
    assert [person.letter for person in tracks.people] == ["A", "B", "C"]
    assert not tracks.annotated[0, 31 * 25 : 39 * 25].any()
    assert tracks.annotated[0, 45 * 25]
    assert not tracks.annotated[:, : 10 * 25].any(), "the lead does not count"


def test_gestures_less_than_a_fifth_of_a_second_apart_are_one(tmp_path):
    close = (
        '<head starttime="88" endtime="88.3" type="concord_signal" form="nod"/>'
        '<head starttime="88.4" endtime="88.9" type="concord_signal" form="nodshake"/>'
    )
    meeting = read_meetings(write_archive(tmp_path / "made.zip", meetings=1, extra={"A": close}))[0]
    assert [(e.start_s, e.end_s) for e in meeting.participants[0].events if e.start_s >= 88] == [(88.0, 88.9)]


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ('<head starttime="52" endtime="51" type="concord_signal" form="nod"/>', "end before they start"),
        ('<head starttime="52" type="concord_signal" form="nod"/>', "lack a time"),
        ('<head starttime="nan" endtime="nan" type="concord_signal"/>', "lack a time"),
        ('<head starttime="51" endtime="52" type="bow_signal"/>', "bow_signal"),
        ('<head starttime="51" endtime="52" type="concord_signal" form="wag"/>', "wag"),
    ],
)
def test_an_event_that_cannot_be_is_left_out_with_a_sentence(extra, said, tmp_path):
    archive = write_archive(tmp_path / "made.zip", meetings=1, extra={"A": extra})
    messages = []
    meeting = read_meetings(archive, messages.append)[0]
    assert len(messages) == 1
    assert said in messages[0]
    assert "XX1000a.A.head.xml" in messages[0]
    plain = read_meetings(write_archive(tmp_path / "plain.zip", meetings=1))[0]
    assert meeting.participants[0].events == plain.participants[0].events


def test_a_meeting_in_which_somebodys_words_are_missing_is_left_out_with_a_sentence(tmp_path):
    archive = write_archive(tmp_path / "made.zip", meetings=2, without="words/XX1000a.C.words.xml")
    messages = []
    assert [meeting.name for meeting in read_meetings(archive, messages.append)] == ["XX1001a"]
    assert "XX1000a.C.words.xml" in messages[0]


@pytest.mark.parametrize("wrong", ["missing", "no zip", "other layout", "no nods", "broken XML"])
def test_an_archive_that_is_none_is_refused_in_one_sentence(wrong, tmp_path):
    path = tmp_path / "made.zip"
    if wrong == "no zip":
        path.write_text("no archive", encoding="utf-8")
    elif wrong == "other layout":
        with zipfile.ZipFile(path, "w") as file:
            file.writestr("heads/XX1000a.A.xml", "<a/>")
    elif wrong == "no nods":
        write_archive(path, meetings=1, form="shake")
    elif wrong == "broken XML":
        write_archive(path, meetings=1, broken="headGesture/XX1000a.A.head.xml")
    with pytest.raises(BadArchiveError) as caught:
        read_meetings(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_folds_keep_a_series_together(tmp_path):
    tracks = annotated_tracks(read_meetings(write_archive(tmp_path / "made.zip", meetings=6, per_series=2)))
    fold = folds_by_series(tracks, 3)
    assert set(fold) == {0, 1, 2}
    for series in set(tracks.series):
        assert len(set(fold[np.array(tracks.series) == series])) == 1
    with pytest.raises(BadArchiveError, match="3 series"):
        folds_by_series(tracks, 4)


@pytest.mark.parametrize(
    ("meeting", "series"), [("ES2003a", "ES2003"), ("IS1009d", "IS1009"), ("EN2002", "EN2002")]
)
def test_a_series_is_the_meetings_name_without_its_letter(meeting, series):
    assert series_of(meeting) == series
