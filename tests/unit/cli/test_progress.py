"""What progress says: one rate, from which the time left follows."""

import time

import pytest

from exdd_ray.cli import progress
from exdd_ray.cli.progress import Pace, terminal_progress


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def paced(clock, total, *steps):
    """The pace after (seconds since the start, steps)."""
    clock[0] = 100.0
    pace = Pace(total)
    for seconds, done in steps:
        clock[0] = 100.0 + seconds
        pace.advance(done)
    return str(pace)


def test_chunks_that_end_together_do_not_count_as_fast(clock):
    assert paced(clock, 30, (50, 10), (50.00001, 10)) == "0.4/s, 25 s left"
    assert paced(clock, 80, (18, 8), (18.1, 8), (21.9, 8), (22, 8)) == "1.45/s, 33 s left"


def test_what_an_earlier_run_made_is_not_part_of_the_rate(clock):
    assert paced(clock, 100, (0.2, 60)) == ""
    assert paced(clock, 100, (0.2, 60), (10, 20)) == "2/s, 10 s left"
    assert paced(clock, 10_000_000, (2, 5_000_000)) == "2,500,000/s, 2 s left"


def test_lines_off_a_terminal(clock, capsys):
    with terminal_progress("embedding", 30) as advance:
        for seconds, steps in ((5, 5), (50, 5), (50.00001, 10), (71, 10)):
            clock[0] = 100.0 + seconds
            advance(steps)
    said = capsys.readouterr().err.splitlines()
    assert said == ["embedding: 10/30, 50 s, 0.2/s, 100 s left", "embedding: 30/30, 71 s, 0.423/s, 0 s left"]


def test_the_bar_shows_the_same_rate(clock):
    from rich.console import Console

    console = Console(force_terminal=True, width=120, record=True)
    with progress._bar(console, "painting", 80) as advance:
        for seconds, steps in ((18, 16), (22, 16)):
            clock[0] = 100.0 + seconds
            advance(steps)
        time.sleep(2.3)  # the bar opens after two seconds
    assert "1.45/s, 33 s left" in console.export_text()
