from __future__ import annotations

import pytest
from timar_common.diagnostics import Level, Percentiles, Report


def test_the_worst_finding_speaks() -> None:
    report = Report()
    report.worsen(Level.WARN, "late")
    report.worsen(Level.ERROR, "dead")
    report.worsen(Level.WARN, "late again")
    assert (report.level, report.message) == (Level.ERROR, "dead")


def test_percentiles_are_of_the_newest_measurements_only() -> None:
    window = Percentiles(capacity=100)
    for value in range(1_000):
        window.add(float(value))
    assert window.summary()["p50"] == pytest.approx(949.5)
    assert Percentiles().summary() == {}
