import io

import pytest
from rich.console import Console

from grfd import progress as module
from grfd.progress import progress


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> io.StringIO:
    said = io.StringIO()
    console = Console(file=said, force_terminal=request.param, width=120)
    monkeypatch.setattr(module, "side", console)
    return said


@pytest.mark.parametrize("screen", [False], indirect=True)
def test_elsewhere_a_line_now_and_then(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 1000, 10))
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(now)))
    with progress("stage-one", 100, done=40) as advance:
        for step in range(6):
            advance(10, f"loss {step}")
    assert screen.getvalue().splitlines() == [
        "stage-one: 60/100, 0:40 left  loss 1",
        "stage-one: 80/100, 0:20 left  loss 3",
        "stage-one: 100/100, 0:00 left  loss 5",
    ]


@pytest.mark.parametrize("screen", [True], indirect=True)
def test_a_terminal_gets_a_bar(screen: io.StringIO) -> None:
    with progress("stage-one", 10) as advance:
        advance(10, "loss 0.5")
    assert "stage-one" in screen.getvalue() and "10/10" in screen.getvalue() and "loss 0.5" in screen.getvalue()
