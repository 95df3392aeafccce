"""Diagnostics as Prometheus reads them, and who may ask for them."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from timar_bringup.metrics import CONTENT_TYPE, MetricsConfig, MetricsServer, NodeHealth, metrics_text

HEALTH = {
    "/head1/driver": NodeHealth(
        0,
        {"restarts": "2", "phase": "following", "late_ms_p99": "0.25", "neck_yaw.temperature_c": "41"},
        10.0,
    ),
    "/head1/inference": NodeHealth(1, {"late": "3", "restarts": "0", "is_warm": "True", "odd": "nan"}, 11.5),
}
"""Made up, in the words that the nodes use."""


def test_numbers_become_metrics_with_the_node_as_label_and_words_do_not():
    text = metrics_text(HEALTH, 12.0, 5e9)
    lines = text.splitlines()
    assert 'timar_level{node="/head1/inference"} 1' in lines
    assert 'timar_heard_seconds_ago{node="/head1/driver"} 2' in lines
    assert 'timar_neck_yaw_temperature_c{node="/head1/driver"} 41' in lines
    assert 'timar_is_warm{node="/head1/inference"} 1' in lines
    assert "timar_disk_free_bytes 5000000000" in lines
    assert "phase" not in text
    assert "nan" not in text
    position = lines.index("# TYPE timar_restarts untyped")
    assert lines[position + 1 : position + 3] == [
        'timar_restarts{node="/head1/driver"} 2',
        'timar_restarts{node="/head1/inference"} 0',
    ]
    assert len({line for line in lines if line.startswith("#")}) == sum(
        line.startswith("#") for line in lines
    )


def ask(address: str, **headers: str) -> tuple[int, str, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, "", ""


@pytest.fixture
def server():
    config = MetricsConfig()
    object.__setattr__(config, "port", 0)  # Any free one.
    server = MetricsServer(config, lambda: metrics_text(HEALTH, 12.0, 5e9))
    yield server
    server.close()


def test_this_machine_is_answered_and_a_foreign_page_is_not(server):
    assert ask(server.address) == (200, CONTENT_TYPE, metrics_text(HEALTH, 12.0, 5e9))
    assert ask(server.address, Host="evil.example")[0] == 403
    assert ask(server.address, Origin="http://evil.example")[0] == 403
    assert ask(server.address.replace("/metrics", "/"))[0] == 404


def test_a_port_that_is_taken_is_named_with_what_to_do(server):
    port = int(server.address.split(":")[2].split("/")[0])
    with pytest.raises(OSError, match=f"127.0.0.1:{port}.*give another metrics_port"):
        MetricsServer(MetricsConfig(port=port), str)
