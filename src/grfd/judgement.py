"""What a run is attacked with and what came of it: of grfd's own runs, and of any classifier."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import data as datasets
from grfd import processes, runs
from grfd.attacks import ATTACKS
from grfd.config import Config
from grfd.data.record import Data, as_images, checked
from grfd.defenses import DEFENSES, is_fitted, standard
from grfd.errors import UserError
from grfd.evaluate.attacker import may_reject
from grfd.evaluate.checks import as_rows, run_checks
from grfd.evaluate.judge import Case, budgets_for, check_names
from grfd.evaluate.judge import evaluate as run_attacks
from grfd.evaluate.protocols import PROTOCOLS
from grfd.models import Architecture, imported
from grfd.opening import Source, build_architecture, load_data, named_data, open_run
from grfd.pictured import write_figures
from grfd.report.table import results as table_results
from grfd.runs import Run, fingerprint
from grfd.training.loop import accelerator_for, best_device


def models_of(
    run: Run, data: Data, target: Architecture, device: torch.device, wanted: tuple[str, ...] = ()
) -> dict[str, nn.Module]:
    """The defenses that are fitted, or those wanted, in eval mode, and the standard models.

    Raises `UserError` for an unknown name and for one that is not fitted.
    """
    for name in wanted:
        if name not in DEFENSES:
            raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)}")
        if not is_fitted(run, name):
            raise UserError(f"{run.path} holds no {name} yet: run grfd fit {name} --out {run.path}")
    chosen = wanted or [name for name in DEFENSES if is_fitted(run, name)]
    found = [name for name in DEFENSES if name == "standard" or name in chosen]
    models = {name: DEFENSES[name].load(run, data, target) for name in found}
    if run.has("second-standard.safetensors"):
        models["second-standard"] = standard.load_second(run, data, target)
    return {name: model.to(device) for name, model in models.items()}


@torch.no_grad()
def check_answers(model: nn.Module, data: Data, device: torch.device, name: str) -> None:
    """Raises `UserError` where a model does not take the images, or answers with something else than logits."""
    images = as_images(data.test.images[:2].to(device))
    try:
        logits = model(images)
    except Exception as error:  # a user's own code may raise anything
        raise UserError(f"{name} cannot take images of {tuple(images.shape[1:])}: {error}") from error
    wanted = len(data.classes) + may_reject(model)
    if not isinstance(logits, torch.Tensor) or logits.shape != (len(images), wanted):
        found = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise UserError(
            f"{name} answers with {found} for {len(images)} images: expected a tensor of {wanted} logits "
            "for each; an adapter can make it so"
        )


def evaluate(
    source: Source,
    protocols: Iterable[str] = tuple(PROTOCOLS),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    data: Data | None = None,
    model: Architecture | None = None,
    defenses: Iterable[str] = (),
) -> dict[str, list[dict[str, Any]]]:
    """Attacks the run's models on the first `examples` test images; writes records, results.json and figures.

    `defenses`: those to attack, the standard models besides; all that are fitted where none is named.
    Returns {"rows": [...], "checks": [...]}, as `grfd show --json` prints. What is recorded already is kept; a killed
    evaluation continues. Raises `UserError` for unknown names and missing weights.
    """
    run = open_run(source)
    if examples < 1:
        raise UserError(f"examples must be at least 1, got {examples}")
    with runs.locked(run.path):
        loaded = load_data(run, data)
        device = accelerator_for(run).device
        models = models_of(run, loaded, build_architecture(run.config, loaded, model), device, tuple(defenses))
        budgets = budgets_for(loaded.test.images.shape[1])
        case = Case(run.path, models, loaded.test, budgets, run.config.seed, device)
        found = _judge(run, case, list(protocols), list(attacks), examples, loaded.source)
        if processes.is_main():
            write_figures(case)
    return found


def evaluate_model(
    model: nn.Module,
    out: Path | str,
    data: Data | str = "mnist",
    *,
    sources: dict[str, nn.Module] | None = None,
    protocols: Iterable[str] = ("transfer", "whitebox", "adaptive"),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    eps: float | None = None,
    config: Config | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Judges any classifier, with no GRFD in it: images [n, channel, height, width] in [0, 1] → logits.

    `out`: the folder for records, results.json and evaluation.json. `sources`: models by name on which `transfer` makes
    its examples; they are judged beside it. `model` may say of itself what a defense says (`grfd.defenses`):
    stochastic, surrogate(), deterministic(). `eps`: one budget for all attacks, in pixels of [0, 1], in place of Table
    1's. Every model is put into eval mode. Returns what `evaluate` returns; records of other weights are made anew.
    Raises `UserError` for unknown names, wrong shapes, and transfer alone without a source.
    """
    if "model" in (sources or {}):
        raise UserError("a source cannot be named 'model': that is the model that is judged")
    named = {**(sources or {}), "model": model}
    wanted = [name for name in protocols if name != "transfer" or sources]
    return evaluate_models(
        named,
        out,
        data,
        sources=tuple(sources or ()),
        protocols=wanted,
        attacks=attacks,
        examples=examples,
        eps=eps,
        config=config,
    )


def evaluate_models(
    models: dict[str, nn.Module],
    out: Path | str,
    data: Data | str = "mnist",
    *,
    sources: tuple[str, ...] = (),
    protocols: Iterable[str] = ("transfer", "whitebox", "adaptive"),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    eps: float | None = None,
    config: Config | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Judges several classifiers by name side by side, so that what transfers is crafted once for all of them.

    `sources`: those of them on which `transfer` makes its examples. Other arguments, result and errors are those of
    `evaluate_model`. A model named second-standard is judged under `transfer` alone.
    """
    wanted, attacks = list(protocols), list(attacks)
    if not wanted:
        raise UserError("transfer needs a model to make its examples on: give a source")
    if examples < 1:
        raise UserError(f"examples must be at least 1, got {examples}")
    check_names(wanted, attacks)
    loaded = datasets.load(data) if isinstance(data, str) else checked(data)
    kinds = sorted({type(each).__qualname__ for each in models.values()})
    settings = config or Config(data=loaded.name, model=" + ".join(kinds))
    with runs.locked(Path(out)):
        device = torch.device("cpu") if settings.device == "cpu" else best_device()
        placed = {name: each.eval().to(device) for name, each in models.items()}
        for name, each in placed.items():
            check_answers(each, loaded, device, name)
        run = runs.create(Path(out), settings)
        budgets = budgets_for(loaded.test.images.shape[1], eps)
        fingerprints = {name: fingerprint(each) for name, each in placed.items()}
        case = Case(run.path, placed, loaded.test, budgets, settings.seed, device, sources, fingerprints)
        return _judge(run, case, wanted, attacks, examples, loaded.source)


def evaluate_named(
    config: Config, weights: Path | None, adapter: str | None, sources: tuple[str, ...], out: Path, **asked: Any
) -> dict[str, list[dict[str, Any]]]:
    """`evaluate_model` of models named package.module:factory, a source with "=weights.safetensors" behind it."""
    network = own_model(config.model, weights, adapter)
    others = {}
    for source in sources:
        name, _, file = source.partition("=")
        if name in others:
            raise UserError(f"source {name} is named twice: give each set of weights a factory of its own")
        others[name] = own_model(name, Path(file) if file else None)
    return evaluate_model(network, out, named_data(config), sources=others, config=config, **asked)


def own_model(name: str, weights: Path | None = None, adapter: str | None = None) -> nn.Module:
    """What `package.module:factory` makes, with the weights of a safetensors file, wrapped by an adapter of that kind.

    Raises `UserError` where it cannot be imported, or is no `nn.Module`.
    """
    if ":" not in name:
        raise UserError(f"model {name!r}: expected package.module:factory")
    if weights is not None and not weights.exists():
        raise UserError(f"{weights} is not there: expected the safetensors file of {name}'s weights")
    network = _called(name)
    if weights is not None and isinstance(network, nn.Module):
        runs.load_weights(network, weights)
    wrapped = _called(adapter, network) if adapter is not None else network
    if not isinstance(wrapped, nn.Module):
        raise UserError(f"{adapter or name} makes a {type(wrapped).__name__}: expected a torch.nn.Module")
    return wrapped


def _called(name: str, *arguments: Any) -> Any:
    """What a function of the user's makes; whatever it raises becomes one line."""
    made = imported(name)
    try:
        return made(*arguments)
    except Exception as error:
        raise UserError(f"{name} raised {type(error).__name__}: {error}") from error


def _judge(
    run: Run, case: Case, protocols: list[str], attacks: list[str], examples: int, images: str
) -> dict[str, Any]:
    """Attacks, checks, results.json, and evaluation.json: what was asked, of which images, by which revision."""
    run_attacks(case, protocols, attacks, examples)
    earlier = results(run)["checks"] if run.has("results.json") else []
    kept = [check for check in earlier if check["model"] not in case.models]
    found = table_results(run.path, kept + processes.of_main(lambda: as_rows(run_checks(case))))
    asked: dict[str, Any] = {"protocols": protocols, "attacks": attacks, "examples": examples, "images": images}
    asked["weights"] = case.fingerprints
    runs.write_json(run.file("evaluation.json"), asked | runs.provenance())
    runs.write_json(run.file("results.json"), found)
    return found


def results(source: Source) -> dict[str, list[dict[str, Any]]]:
    """What `evaluate` returned. Raises `UserError` where the run is not evaluated yet."""
    run = open_run(source)
    if not run.has("results.json"):
        raise UserError(f"{run.path} holds no results yet: run grfd evaluate {run.path}")
    return json.loads(run.file("results.json").read_text())
