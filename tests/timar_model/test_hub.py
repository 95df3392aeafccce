"""Downloads from the hub: pinned, resumed at the byte, verified, and whatever goes wrong is a sentence."""

from __future__ import annotations

import random

import pytest
from local_hub import HubRepo, local_hub, use_hub
from timar_model.hub import find_repository, local_folder, parse

from timar_model import hub as hub_module

OLD, NEW = "a" * 40, "b" * 40
SOURCE = "hub:somebody/head"
WEIGHTS = random.Random(0).randbytes(300_000)
CARD = b"---\nlicense: apache-2.0\ntags: [heads]\n---\n# A head\n"
FILES = {"weights.pth": WEIGHTS, "README.md": CARD}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    from huggingface_hub import constants

    repo = HubRepo({OLD: {"weights.pth": b"old" * 1000, "README.md": CARD}, NEW: FILES})
    with local_hub({"somebody/head": repo}) as served:
        use_hub(served, tmp_path / "cache", monkeypatch)
        monkeypatch.setattr(hub_module.time, "sleep", lambda seconds: None)
        yield served
    assert constants.HF_HUB_CACHE.startswith(str(tmp_path))


def get(source=SOURCE, names=tuple(FILES)):
    return find_repository(source).download(names)


def test_a_repository_is_pinned_to_the_commit_that_its_revision_is(hub):
    found = find_repository(SOURCE)
    assert (found.commit, str(found)) == (NEW, f"hub:somebody/head@{NEW}")
    folder = found.download(list(FILES))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert found.licence() == "apache-2.0"
    assert not any("xet" in request for request in hub.requests)
    assert (get(f"{SOURCE}@{OLD}") / "weights.pth").read_bytes() == b"old" * 1000


def test_what_was_downloaded_is_found_by_every_program_of_the_hub(hub):
    from huggingface_hub import try_to_load_from_cache

    folder = get()
    assert try_to_load_from_cache("somebody/head", "weights.pth") == str(folder / "weights.pth")
    before = dict(hub.served)
    get()
    assert dict(hub.served) == before


@pytest.mark.parametrize("is_reset", [False, True])
def test_a_break_at_any_byte_leaves_nothing_half_and_the_next_call_resumes(hub, is_reset, monkeypatch):
    monkeypatch.setattr(hub_module, "MAX_FAILURES", 1)
    hub.is_reset = is_reset
    for end in (0, 1, 4095, 65_536, 65_537, len(WEIGHTS) - 1):
        hub.breaks = [end, 0]
        with pytest.raises(ConnectionError, match="goes on where it stopped"):
            get()
        assert not list(find_repository(SOURCE).folder.glob("weights.pth"))
    assert (get() / "weights.pth").read_bytes() == WEIGHTS
    # What a reset throws away of what was under way is sent again, and nothing else.
    spare = hub.served["weights.pth"] - len(WEIGHTS)
    assert spare == 0 if not is_reset else 0 <= spare < len(WEIGHTS)
    assert not list(find_repository(SOURCE).cache.rglob("*.incomplete"))


def test_a_break_within_a_call_is_mended_by_that_call(hub):
    hub.breaks = [1000, 3000, 0, 6000]
    assert (get() / "weights.pth").read_bytes() == WEIGHTS
    assert hub.served["weights.pth"] == len(WEIGHTS)


def test_a_server_without_ranges_sends_the_file_anew(hub):
    hub.ignores_ranges, hub.breaks = True, [1000]
    assert (get() / "weights.pth").read_bytes() == WEIGHTS
    assert hub.served["weights.pth"] == len(WEIGHTS) + 1000


def test_a_file_with_a_wrong_digest_is_refused_and_fetched_anew(hub):
    hub.wrong["weights.pth"] = WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1])
    with pytest.raises(OSError, match=r"has the digest .* expected .* call again"):
        get()
    assert not list(find_repository(SOURCE).folder.glob("weights.pth"))
    hub.wrong.clear()
    assert (get() / "weights.pth").read_bytes() == WEIGHTS


def test_a_cached_file_that_changed_is_noticed(hub):
    path = (get() / "weights.pth").resolve()
    path.write_bytes(bytes(len(WEIGHTS)))
    with pytest.raises(OSError, match="has the digest"):
        get()
    assert (get() / "weights.pth").read_bytes() == WEIGHTS


def test_the_second_time_needs_no_network(hub, monkeypatch):
    from huggingface_hub import constants

    folder, lines = get(), []
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    count = len(hub.requests)
    found = find_repository(SOURCE, lines.append)
    assert (found.commit, found.download(list(FILES))) == (NEW, folder)
    assert local_folder("somebody/head") == folder
    assert len(hub.requests) == count
    assert "HF_HUB_OFFLINE is set" in lines[0]


def test_a_hub_that_is_out_of_reach_is_replaced_by_what_was_downloaded(hub, monkeypatch):
    from huggingface_hub import constants

    folder, lines = get(), []
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert find_repository(SOURCE, lines.append).folder == folder
    assert "is what was downloaded before" in lines[0]
    with pytest.raises(ConnectionError, match=r"the connection to http://127\.0\.0\.1:9 broke"):
        find_repository("hub:somebody/else")


def test_a_hub_that_is_down_is_replaced_by_what_was_downloaded(hub):
    folder = get()
    hub.answers = [(503, {})]
    assert find_repository(SOURCE).folder == folder
    hub.answers = [(503, {})]
    with pytest.raises(OSError, match="answered 503 for somebody/else: try again later"):
        find_repository("hub:somebody/else")


def test_a_hub_that_is_asked_too_often_is_waited_for_as_long_as_it_says(hub, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(hub_module.time, "sleep", waits.append)
    hub.answers = [(429, {"Retry-After": "7"})] * 2
    assert find_repository(SOURCE).commit == NEW
    assert waits == [7.0, 7.0]
    hub.answers = [(429, {"Retry-After": "7"})] * 9
    with pytest.raises(OSError, match="asked too often; wait some minutes"):
        find_repository(SOURCE)


def test_tokens_open_a_private_repository_and_never_reach_the_storage(hub, monkeypatch):
    hub.repos["somebody/head"].token = "hf_right"
    with pytest.raises(OSError, match=r"there is no repository somebody/head .* or it is private"):
        find_repository(SOURCE)
    monkeypatch.setenv("HF_TOKEN", "hf_right")
    assert (get() / "weights.pth").read_bytes() == WEIGHTS
    assert hub.tokens_at_storage == []
    monkeypatch.setenv("HF_TOKEN", "refused")
    with pytest.raises(OSError, match="the token is not valid"):
        find_repository(SOURCE)


def test_what_the_hub_refuses_is_a_sentence(hub):
    with pytest.raises(OSError, match="has no revision 'v9'; leave @v9 out"):
        find_repository(f"{SOURCE}@v9")
    with pytest.raises(OSError, match="there is no repository nobody/nothing"):
        find_repository("hub:nobody/nothing")
    hub.repos["somebody/head"].is_gated = True
    with pytest.raises(OSError, match=r"is gated: accept its terms at http://.*/somebody/head, then log in"):
        find_repository(SOURCE)
    hub.repos["somebody/head"].is_gated = False
    hub.answers = [(403, {"X-Error-Message": "no"})]
    with pytest.raises(OSError, match="your token may not read it"):
        find_repository(SOURCE)


@pytest.mark.parametrize("source", ["hub:head", "hub:a/b/c", "hub:a/b@", "hub:", "hub:a b/c"])
def test_a_source_of_another_form_is_refused(source):
    with pytest.raises(ValueError, match="expected hub:OWNER/NAME"):
        parse(source)
