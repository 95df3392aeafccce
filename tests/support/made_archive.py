"""A tiny archive in the layout of AMI's manual annotations, of made-up people."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np

LETTERS = "ABCD"
ROOT = "ami_public_manual_made"


def write_archive(
    path: Path,
    *,
    meetings: int,
    seconds: float = 90.0,
    per_series: int = 1,
    form: str = "nod",
    off_camera: tuple[float, float] | None = None,
    few_for: str = "",
    extra: dict[str, str] | None = None,
    without: str = "",
    broken: str = "",
    seed: int = 0,
) -> Path:
    """Write meetings of four people who speak in turns, and nod (or what form says) as they are spoken to.

    Args:
        path: Of the zip archive.
        meetings: How many.
        seconds: Length of each [s].
        per_series: Meetings of the same people.
        form: Of most gestures.
        off_camera: When A is off camera [s]; A makes no gesture then.
        few_for: Who makes hardly any gesture.
        extra: Elements added to somebody's gestures in the first meeting.
        without: A file that is missing.
        broken: A file that is cut in the middle.
        seed: Of words and gestures.
    """
    random, files, listed = np.random.default_rng(seed), {}, []
    for number in range(meetings):
        series, letter = divmod(number, per_series)
        name = f"XX{1000 + series}{'abcd'[letter]}"
        speakers = "".join(f'<speaker nxt_agent="{who}" global_name="P{series}{who}"/>' for who in LETTERS)
        listed.append(f'<meeting observation="{name}">{speakers}</meeting>')
        turns = [(start, LETTERS[int(random.integers(4))]) for start in np.arange(1.0, seconds - 4, 4.0)]
        for who in LETTERS:
            words = [
                f'<w starttime="{start + k * 0.4:.2f}" endtime="{start + k * 0.4 + 0.35:.2f}">word</w>'
                for start, speaker in turns if speaker == who for k in range(8)
            ] or ['<w starttime="0.5" endtime="0.9">yes</w>']  # fmt: skip
            words.insert(1, '<w punc="true" starttime="1" endtime="1">.</w>')
            files[f"words/{name}.{who}.words.xml"] = words
            cut = off_camera if who == "A" else None
            heads, time = [], 0.0
            for index, (start, speaker) in enumerate(turns):
                at, end = start + 1.0 + random.random(), 0.0
                is_off = cut is not None and cut[0] - 2 < at < cut[1] + 2
                if speaker == who or is_off or random.random() < 0.3 or (who == few_for and index > 2):
                    continue
                end = at + 0.2 + random.random()
                shape = (f'form="{form}"', 'form="shake"', "")[index % 7 - 4 if index % 7 > 4 else 0]
                if cut is None or not time < cut[0] < at:
                    heads.append(_head(time, at, "no_comm_head"))
                else:
                    heads += [_head(time, cut[0], "no_comm_head"), _head(cut[1], at, "no_comm_head")]
                heads.append(_head(at, end, "concord_signal", shape))
                time = end
            heads.append(_head(time, seconds, "no_comm_head"))
            if number == 0:
                heads.append((extra or {}).get(who, ""))
            files[f"headGesture/{name}.{who}.head.xml"] = heads
            target = LETTERS[(LETTERS.index(who) + 1) % 4]
            files[f"focus/{name}.{who}.foa.xml"] = [
                f'<foa starttime="0" endtime="{seconds}" type="person" nxt_agent="{target}"/>'
            ]
    files["corpusResources/meetings.xml"] = listed
    with zipfile.ZipFile(path, "w") as archive:
        for name, elements in files.items():
            text = f"<root>{''.join(elements)}</root>"
            if name != without:
                archive.writestr(f"{ROOT}/{name}", text[:40] if name == broken else text)
    return path


def _head(start_s: float, end_s: float, purpose: str, form: str = "") -> str:
    return f'<head starttime="{start_s:.2f}" endtime="{end_s:.2f}" type="{purpose}" {form}/>'
