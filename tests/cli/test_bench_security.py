"""``facesvc bench security``, with numbers that take a few seconds."""

import pytest
from cli.running import Facesvc

from facesvc.cli import bench_security


@pytest.fixture
def server() -> str:
    """No server of the test's: the command starts its own."""
    return "127.0.0.1:1"


@pytest.mark.slow
def test_it_prints_what_it_measured(facesvc: Facesvc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_security, "_BAR_PERCENT", 1e6)
    monkeypatch.setattr(bench_security, "_SIZE", (320, 240))
    result = facesvc("bench", "security", "--rounds", 4, "--frames", 2, "--json")
    assert result.status == 0, result.out
    rows = {(row["workload"], row["what"]): row["value"] for row in result.json["rows"]}
    assert len(rows) == 11
    cost = next(value for (_, what), value in rows.items() if what.startswith("cost"))
    low = next(value for (_, what), value in rows.items() if "95 %" in what)
    assert low <= cost < 100
    assert rows["a small call", "TLS and token p50, ms"] < rows["with its connection", "TLS and token p50, ms"]


def test_a_cost_above_the_bar_is_no_success(facesvc: Facesvc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_security, "measure", lambda *_: [bench_security.at_most("w", "cost", 6.0, 5.0)])
    assert facesvc("bench", "security").status == 1


def test_the_cost_is_what_is_lost_of_the_frames() -> None:
    rows = bench_security._rows([[10.0, 9.0]] * 8, [1, 1], [[1, 1]], [[1], [1]], 1000)
    found = {row.what: row for row in rows}
    cost = found["cost, % of the frames/s, median of rounds"]
    assert (round(cost.value, 6), cost.met) == (10, False)
    assert round(found["to"].value, 6) == 10
