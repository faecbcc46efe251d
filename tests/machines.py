"""Machines that divide a small experiment among them, as processes of their own."""

import multiprocessing

from grfd import cli
from grfd.config import Config
from grfd.experiments import variants
from grfd.experiments.variants import Schedule

TINY = Schedule(Config(epochs=1, classifier_epochs=1, train_examples=200, latent=8, device="cpu"), 8, ("fgsm",))


def reproduce_fig3(*options: str) -> None:
    """Figure 3 with two seeds, on a schedule of seconds."""
    variants.SCHEDULES["quick"] = TINY
    cli._dispatch(["reproduce", "fig3", "--seeds", "2", *options])


def reproduce_together(*machines: tuple[str, ...]) -> list[int | None]:
    """The same at once in a process for each tuple of options. Returns their exit codes."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=reproduce_fig3, args=options) for options in machines]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return [worker.exitcode for worker in workers]
