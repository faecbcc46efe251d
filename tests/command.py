"""The `grfd` command in a process of its own. It is forked from a process that has imported grfd, which takes seconds.

Signals, exit codes, standard streams and kills are those of any process. For the start of Python itself, with its
import and its environment variables, tests run the installed command instead.
"""

import multiprocessing
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["grfd.cli"])

ONE_PROBE = "random outputs"
"""The masking check that is made where something else is tested: all of them take seconds for each model."""


class Done(NamedTuple):
    """A command that ended: its exit code, negative for the signal that killed it, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """A command that was started."""

    def __init__(
        self,
        *arguments: str | Path,
        kill_at: int = 0,
        cwd: Path | None = None,
        environment: Mapping[str, str] = MappingProxyType({}),
        one_probe: bool = False,
    ) -> None:
        """Starts `grfd ARGUMENTS`. With `kill_at`, it kills itself while it writes its file of that number to disk.

        `environment`: variables for grfd beside those of the tests. `one_probe`: as the fixture of that name.
        """
        self._streams = tempfile.TemporaryDirectory()
        place = (str(cwd or Path.cwd()), os.environ | environment, self._streams.name)
        self._process = _SERVER.Process(
            target=_run, args=([str(each) for each in arguments], place, kill_at, one_probe)
        )
        self._process.start()
        self.pid: int = self._process.pid

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def done(self) -> Done:
        """Waits for the end."""
        self._process.join()
        with self._streams as folder:
            printed = [Path(folder, name).read_text() for name in ("stdout", "stderr")]
        return Done(self._process.exitcode, *printed)


def run(*arguments: str | Path, kill_at: int = 0, cwd: Path | None = None, one_probe: bool = False) -> Done:
    """`grfd ARGUMENTS`, when it has ended."""
    return Running(*arguments, kill_at=kill_at, cwd=cwd, one_probe=one_probe).done()


def run_together(count: int, *arguments: str | Path, one_probe: bool = False) -> list[Done]:
    """`grfd ARGUMENTS` as one job of some processes, with the environment that torchrun gives to each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    job = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ranks = [job | dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) for rank in range(count)]
    processes = [Running(*arguments, environment=each, one_probe=one_probe) for each in ranks]
    return [process.done() for process in processes]


def _run(
    arguments: list[str], place: tuple[str, Mapping[str, str], str], kill_at: int, one_probe: bool = False
) -> None:
    """What the new process does."""
    folder, environment, streams = place
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(streams, name), os.O_WRONLY | os.O_CREAT), number)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if kill_at:
        _kill_at_write(kill_at)
    if one_probe:
        from grfd.evaluation import checks

        checks.PROBES = {ONE_PROBE: checks.PROBES[ONE_PROBE]}
    sys.argv = ["grfd", *arguments]
    sys.path.insert(0, "")
    from grfd.cli import main

    main()


def _kill_at_write(wanted: int) -> None:
    """SIGKILL at the flush of the file of that number: its temporary file is written, and not renamed yet."""
    real, written = os.fsync, []

    def fsync(handle: int) -> None:
        written.append(handle)
        if len(written) == wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        real(handle)

    os.fsync = fsync
