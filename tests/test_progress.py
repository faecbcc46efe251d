import io
import json

import pytest
from rich.console import Console
from rich.table import Table

from grfd import progress as module
from grfd.progress import Output, print_json, progress, titled


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


@pytest.mark.parametrize("screen", [True], indirect=True)
def test_square_brackets_beside_a_bar_are_no_markup(screen: io.StringIO) -> None:
    with progress("[/x]", 10) as advance:
        advance(10, "[red]loss[/] 0.5")
    assert "[/x]" in screen.getvalue() and "[red]loss[/] 0.5" in screen.getvalue()


def test_text_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console, text = Output(), "runs/[/x] [bold]:cat: " + "word " * 50
    console.print(text)
    console.print(titled("[red]", text))
    assert capsys.readouterr().out == f"{text}\n[red]{text}\n"


def test_a_table_in_a_pipe_is_as_wide_as_it_needs(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "value")
    table.add_row("x" * 150, "[red]y[/]")
    Output().print(table)
    assert "x" * 150 in capsys.readouterr().out


def test_json_is_valid_in_any_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"ε": "é 😀"}
    for encoding in ("utf-8", "ascii", "latin-1"):
        said = io.BytesIO()
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(said, encoding=encoding, write_through=True))
        print_json(content)
        assert json.loads(said.getvalue().decode(encoding)) == content
