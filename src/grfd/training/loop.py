"""The training loop. An objective is a module: (inputs, labels, progress) → terms, each with one value per example."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields
from itertools import pairwise
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from grfd import processes
from grfd.config import Config
from grfd.data.augment import crop_and_flip
from grfd.data.record import as_images
from grfd.errors import Diverged
from grfd.files import is_there
from grfd.memory import available, keep_freed_memory
from grfd.progress import progress
from grfd.runs import Run
from grfd.seeds import BatchPart, generator, seeded, sharing
from grfd.training.checkpoint import restore_checkpoint, save_checkpoint
from grfd.training.limits import batch_sizes, pass_errors_explained, refuse_unbounded
from grfd.training.metrics import METRICS_FILE, append_epoch
from grfd.types import PerExample

Terms = dict[str, PerExample]
"""The terms of an objective by name, one value per example. "loss" is minimised, and the others are only logged."""

Inputs = Callable[[int], tuple[Tensor, Tensor]]
"""Epoch, counted from 0 → all inputs (uint8 or float32) and labels of that epoch."""

_LOG_INTERVAL = 0.5
"""Seconds between two updates of the progress bar. Each one reads the losses and so waits for the device."""


@dataclass(frozen=True)
class Optimisation:
    """How an objective is minimised: by AdamW, with a learning rate that decays to 0 along a cosine."""

    epochs: int
    learning_rate: float
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float | None = None
    """That of the run's configuration where it is None."""


@dataclass
class Trainer:
    """What `fit_objective` carries from epoch to epoch."""

    run: Run
    name: str
    objective: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    optimisation: Optimisation

    @property
    def checkpoint(self) -> Path:
        return self.run.file(f"checkpoints/{self.name}.safetensors")

    @property
    def bare(self) -> nn.Module:
        """The objective without the wrapper that distributes it over processes."""
        return self.accelerator.unwrap_model(self.objective)

    def identity(self) -> str:
        """A text of all that the bits of this training depend on, except the images and the code.

        Settings with default values are left out, so that a setting which is added later does not change the text.
        """
        config, default = self.run.config, Config()
        changed = {f.name: getattr(config, f.name) for f in fields(Config) if f.name != "data_dir"}
        changed = {name: value for name, value in changed.items() if value != getattr(default, name)}
        group = self.optimizer.param_groups[0]
        length = (self.optimisation.epochs, self.optimisation.learning_rate)
        return repr((self.name, *length, group["betas"], group["weight_decay"], changed))


def accelerator_for(run: Run) -> Accelerator:
    """The device, the precision and the processes that the configuration and `accelerate launch` ask for."""
    AcceleratorState._reset_state()  # or accelerate would refuse a second run with another precision
    processes.join()
    return Accelerator(
        cpu=run.config.device == "cpu",
        mixed_precision="bf16" if run.config.precision == "bfloat16" else "no",
        # parameters have no gradient where a weight is 0, or where a defense uses only a part of a network
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def best_device() -> torch.device:
    """The accelerator of this machine, or the CPU where there is none."""
    AcceleratorState._reset_state()
    return Accelerator().device


def fit_objective(run: Run, name: str, objective: nn.Module, inputs: Inputs, optimisation: Optimisation) -> nn.Module:
    """Trains the parameters of `objective`, and returns it in eval mode.

    A checkpoint is written after each epoch. The order and the noise of an epoch depend only on the seed, `name` and
    the epoch, so a run that was killed resumes and ends with the same bits. Several processes divide each batch.
    Raises `Diverged`, a `UserError`, when a loss is not finite; the last checkpoint is kept.
    """
    keep_freed_memory()
    trainer = build_trainer(run, name, objective, optimisation)
    accelerator, epochs = trainer.accelerator, optimisation.epochs
    first = _restore(trainer)
    if first == epochs:
        return objective.eval()
    current = inputs(first)
    images, labels = (_placed(tensor, accelerator.device) for tensor in current)
    steps = len(batch_sizes(len(labels), run.config.batch))
    with progress(name, epochs * steps, done=first * steps) as advance:
        for epoch in range(first, epochs):
            started = time.perf_counter()
            if epoch > first and (fresh := inputs(epoch))[0] is not current[0]:
                current = fresh
                images, labels = (_placed(tensor, accelerator.device) for tensor in current)
            means = _epoch(trainer, epoch, images, labels, advance)
            refuse_unbounded(name, trainer.bare, epoch, run.path)
            row = {"stage": name, "epoch": epoch + 1, **means, "seconds": time.perf_counter() - started}
            append_epoch(run.file(METRICS_FILE), row)
            save_checkpoint(trainer.checkpoint, trainer.bare, trainer.optimizer, epoch + 1, trainer.identity())
    return objective.eval()


def _placed(values: Tensor, device: torch.device) -> Tensor:
    """The tensor on the device, unless it would take more than half of its free memory."""
    free = available(device) if device.type != "cpu" else None
    return values if free is not None and values.nbytes > free // 2 else values.to(device)


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """Some rows of a tensor, on the device of the index."""
    return values[index.to(values.device)].to(index.device)


def build_trainer(run: Run, name: str, objective: nn.Module, optimisation: Optimisation) -> Trainer:
    """Puts the objective on its device, and builds its optimiser."""
    accelerator = accelerator_for(run)
    if run.config.channels_last:
        objective.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        objective.parameters(),
        lr=optimisation.learning_rate,
        betas=optimisation.betas,
        weight_decay=run.config.weight_decay if optimisation.weight_decay is None else optimisation.weight_decay,
        fused=True,
    )
    placed, optimizer = accelerator.prepare(objective, optimizer)
    return Trainer(run, name, placed, optimizer, accelerator, optimisation)


def _epoch(
    trainer: Trainer, epoch: int, images: Tensor, labels: Tensor, advance: Callable[[int, str], None]
) -> dict[str, float]:
    """One pass over the data, which is on the device. Returns the mean of each term."""
    config, accelerator = trainer.run.config, trainer.accelerator
    order = torch.randperm(len(labels), generator=generator(config.seed, trainer.name, epoch, "order"))
    batches = order.to(accelerator.device).split(batch_sizes(len(labels), config.batch))
    trainer.objective.train()
    sums: dict[str, Tensor] = {}
    pending, looked = 0, time.monotonic()
    with noise(trainer, epoch) as stream:
        for index, batch in enumerate(batches):
            _set_learning_rate(trainer, epoch + index / len(batches))
            terms = step(trainer, images, labels, batch, epoch / trainer.optimisation.epochs, stream)
            for term, values in terms.items():
                sums[term] = sums.get(term, 0.0) + values.sum()
            pending += 1
            if time.monotonic() - looked > _LOG_INTERVAL or index + 1 == len(batches):
                advance(pending, _text(trainer, epoch, terms))
                pending, looked = 0, time.monotonic()
    totals = accelerator.reduce(torch.stack(list(sums.values())), "sum").tolist()
    return {term: total / len(labels) for term, total in zip(sums, totals, strict=True)}


@contextmanager
def noise(trainer: Trainer, epoch: int) -> Iterator[torch.Generator]:
    """Seeds the noise of an epoch. Yields the stream for batches that are split into parts.

    Draws through `seeds.drawn` then have the same bits as in one pass of one process. Other draws, those of dropout for
    example, come from a stream of their own in each process.
    """
    names = (trainer.name, epoch, "noise")
    seed, accelerator = trainer.run.config.seed, trainer.accelerator
    with seeded(seed, *names, accelerator.process_index):
        yield generator(seed, *names, 0, device=accelerator.device)


def step(
    trainer: Trainer, images: Tensor, labels: Tensor, batch: Tensor, done: float, stream: torch.Generator
) -> Terms:
    """One gradient step on this process's part of a batch of indices, in as many passes as the configuration says.

    The gradients of the passes add up to the gradient of the whole batch. Returns the terms of this process's part.
    """
    accelerator, state, terms_of_passes = trainer.accelerator, stream.get_state(), []
    parts = _parts(trainer, len(batch))
    alone = trainer.run.config.passes == accelerator.num_processes == 1
    trainer.optimizer.zero_grad()
    for index, part in enumerate(parts):
        stream.set_state(state)  # each pass draws the noise of the whole batch and keeps its own rows
        drawing = nullcontext() if alone else sharing(BatchPart(part.start, len(batch), stream))
        waiting = accelerator.no_sync(trainer.objective) if index + 1 < len(parts) else nullcontext()
        with drawing, waiting, pass_errors_explained(trainer.name, part.stop - part.start):
            terms_of_passes.append(
                _pass(trainer, _rows(images, batch[part]), _rows(labels, batch[part]), done, len(batch))
            )
    trainer.optimizer.step()
    return {term: torch.cat([terms[term] for terms in terms_of_passes]) for term in terms_of_passes[0]}


def _parts(trainer: Trainer, total: int) -> list[slice]:
    """The rows of a batch that this process takes in each pass. There is at least one pass, which may be empty."""
    processes_there, mine = trainer.accelerator.num_processes, trainer.accelerator.process_index
    first, stop = (total * index // processes_there for index in (mine, mine + 1))
    count = max(min(trainer.run.config.passes, stop - first), 1)
    ends = [first + (stop - first) * index // count for index in range(count + 1)]
    return [slice(start, end) for start, end in pairwise(ends)]


def _pass(trainer: Trainer, images: Tensor, labels: Tensor, done: float, total: int) -> Terms:
    """Adds the gradients of some examples of a batch of `total` examples. Returns their terms."""
    images = as_images(crop_and_flip(images) if trainer.run.config.augmentation == "crop_flip" else images)
    if trainer.run.config.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    with trainer.accelerator.autocast():
        terms = trainer.objective(images, labels, done)
    # gradients are averaged over the processes, so each process contributes its share of the batch mean
    trainer.accelerator.backward(terms["loss"].sum() * (trainer.accelerator.num_processes / total))
    return {term: values.detach() for term, values in terms.items()}


def _set_learning_rate(trainer: Trainer, epoch: float) -> None:
    optimisation = trainer.optimisation
    rate = optimisation.learning_rate * 0.5 * (1 + math.cos(math.pi * epoch / optimisation.epochs))
    for group in trainer.optimizer.param_groups:
        group["lr"] = rate


def _text(trainer: Trainer, epoch: int, terms: Terms) -> str:
    """The text beside the progress bar: the means of the batch. Raises `Diverged` when one is not finite."""
    if not len(terms["loss"]):  # the last batch may have fewer images than there are processes
        return ""
    means = dict(zip(terms, torch.stack([values.mean() for values in terms.values()]).tolist(), strict=True))
    for term, value in means.items():
        if not math.isfinite(value):
            raise Diverged(
                f"{trainer.name}: {term} is {value} in epoch {epoch + 1}; the last whole epoch is kept in "
                f"{trainer.run.path}. A lower learning rate or sigma, or gradient_of margin, keeps it finite"
            )
    means_text = "  ".join(f"{term} {value:.3f}" for term, value in means.items())
    return f"epoch {epoch + 1}/{trainer.optimisation.epochs}  {means_text}"


def _restore(trainer: Trainer) -> int:
    """Loads the checkpoint where there is one. Returns the number of finished epochs."""
    if not is_there(trainer.checkpoint):
        return 0
    epochs = trainer.optimisation.epochs
    return restore_checkpoint(trainer.checkpoint, trainer.bare, trainer.optimizer, epochs, trainer.identity())
