"""What a run is attacked with and what came of it: of grfd's own runs, and of any classifier."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from grfd import data as datasets
from grfd import processes, runs, schema
from grfd.api.job import (
    OwnModel,
    Source,
    as_names,
    as_path,
    build_architecture,
    load_data,
    named_data,
    open_run,
    own_data,
)
from grfd.api.pictures import write_figures
from grfd.attacks import ATTACKS
from grfd.config import Config
from grfd.data.record import Data, as_images
from grfd.defenses import DEFENSES, has_residual, is_fitted, standard
from grfd.errors import UserError
from grfd.evaluation.attacker import may_reject
from grfd.evaluation.case import Case, budgets_for, check_applies, check_budgets, check_names, looked_at
from grfd.evaluation.checks import as_rows, run_checks
from grfd.evaluation.judge import evaluate as run_attacks
from grfd.evaluation.numbers import results as table_results
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.stored import read_results
from grfd.models import Architecture
from grfd.models.checks import as_module, check_answers, check_declarations, check_folder_name, check_numbers
from grfd.models.own import factory, imported, in_one_line, made
from grfd.models.state import is_quantised, left_as_they_were
from grfd.runs import Run
from grfd.seeds import left_as_found
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


def check_own(model: nn.Module, data: Data, device: torch.device, name: str) -> None:
    """Raises `UserError` where a user's model does not answer as it must, or says wrong things of itself.

    It is put into eval mode, and its weights are moved to the device.
    """
    with in_one_line(f"{name}: eval()"):
        model.eval()
        model.to(device)
    images = as_images(data.test.images[:3].to(device))
    classes = len(data.classes)
    check_numbers(model, name, classes)
    logits = classes + may_reject(model)
    check_answers(model, images, name, logits, hint="; an adapter can make it so")
    check_declarations(model, images, name, classes)
    surrogate = getattr(model, "surrogate", None)
    if is_quantised(model) and surrogate is None:
        raise UserError(
            f"{name} is quantised, so that attacks have no gradient to follow and it would look too robust: "
            "judge the network before quantisation, or give it a surrogate() that returns that network"
        )


def evaluate(
    source: Source,
    protocols: Iterable[str] = tuple(PROTOCOLS),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    data: Data | None = None,
    model: OwnModel | None = None,
    defenses: Iterable[str] = (),
    *,
    trust: bool = False,
) -> dict[str, list[dict[str, Any]]]:
    """Attacks the run's models on the first `examples` test images; writes records, results.json and figures.

    `defenses`: those to attack, the standard models besides; all that are fitted where none is named. `model` or
    `trust=True`: a run of your own model imports no code without one of them (see `load_defense`).
    Returns {"rows": [...], "checks": [...]}, as `grfd show --json` prints. What is recorded already is kept; a killed
    evaluation continues. Raises `UserError` for unknown names and missing weights.
    """
    run = open_run(source)
    wanted, chosen = as_names(protocols, "protocols"), as_names(attacks, "attacks")
    examples = schema.value("examples", schema.Examples, examples)
    check_names(wanted, chosen)
    with left_as_found(), runs.locked(run.path):
        loaded = load_data(run, data)
        target = build_architecture(run.config, loaded, model, trust=trust)
        device = accelerator_for(run).device
        models = models_of(run, loaded, target, device, tuple(as_names(defenses, "defenses")))
        if model is not None or ":" in run.config.model:
            check_own(models["standard"], loaded, device, f"model {run.config.model!r}")
        budgets = budgets_for(loaded.test.images.shape[1])
        case = Case(run.path, models, loaded.test, budgets, run.config.seed, device)
        check_applies(case, wanted)
        case = looked_at(case)
        found = _judge(run, case, wanted, chosen, examples, loaded.source)
        if processes.is_main():
            write_figures(case)
    return found


def evaluate_model(
    model: nn.Module | Callable[[torch.Tensor], torch.Tensor],
    out: Path | str,
    data: Data | str = "mnist",
    *,
    sources: Mapping[str, nn.Module | Callable[[torch.Tensor], torch.Tensor]] | None = None,
    protocols: Iterable[str] = ("transfer", "whitebox", "adaptive"),
    attacks: Iterable[str] = tuple(ATTACKS),
    examples: int = 1000,
    eps: float | None = None,
    config: Config | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Judges any classifier, a module or a function: images [n, channel, height, width] in [0, 1] → logits.

    `out`: the folder for records, results.json and evaluation.json. `sources`: models by name on which `transfer` makes
    its examples; they are judged beside it. `model` may say of itself what a defense says (`grfd.defenses`):
    stochastic, surrogate(), deterministic(). `eps`: one budget for all attacks, in pixels of [0, 1], in place of Table
    1's. Every model is asked in eval mode, and given back as it was; the networks that a function calls keep their
    mode. Returns what `evaluate` returns; records of other weights are made anew.
    Raises `UserError` for unknown names, wrong shapes, and transfer alone without a source.
    """
    if not isinstance(sources, Mapping | None):
        raise UserError(f"sources is a {type(sources).__name__}: expected a dict of models by name")
    if "model" in (sources or {}):
        raise UserError("a source cannot be named 'model': that is the model that is judged")
    named = {**(sources or {}), "model": model}
    wanted = as_names(protocols, "protocols")
    if {"transfer", "whitebox", "adaptive"} <= set(wanted):  # the default, or all of them: those that apply
        residual = any(has_residual(each) for each in named.values())
        useless = (set() if sources else {"transfer"}) | (set() if residual else {"residual"})
        wanted = [name for name in wanted if name not in useless]
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
    models: Mapping[str, nn.Module | Callable[[torch.Tensor], torch.Tensor]],
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
    wanted, chosen, folder = as_names(protocols, "protocols"), as_names(attacks, "attacks"), as_path(out, "out")
    examples = schema.value("examples", schema.Examples, examples)
    eps = schema.value("eps", schema.Pixels | None, eps)
    check_names(wanted, chosen)
    for name in models:
        check_folder_name(name)
    given = {name: as_module(each, name) for name, each in models.items()}
    with left_as_found(), left_as_they_were(*given.values()):
        loaded = datasets.load(data) if isinstance(data, str) else own_data(data)
        kinds = sorted({type(each).__qualname__ for each in given.values()})
        settings = config or Config(data=loaded.name, model=" + ".join(kinds))
        with runs.locked(folder):
            device = torch.device("cpu") if settings.device == "cpu" else best_device()
            for name, each in given.items():
                check_own(each, loaded, device, name)
            budgets = budgets_for(loaded.test.images.shape[1], eps)
            check_budgets(budgets, chosen)
            case = Case(folder, given, loaded.test, budgets, settings.seed, device, sources)
            check_applies(case, wanted)
            run = runs.create(folder, settings)
            return _judge(run, looked_at(case), wanted, chosen, examples, loaded.source)


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
    network = factory(name, imported(name))()
    if weights is not None:
        runs.load_weights(network, weights)
    return made(adapter, imported(adapter), network) if adapter is not None else network


def _judge(
    run: Run, case: Case, protocols: list[str], attacks: list[str], examples: int, images: str
) -> dict[str, Any]:
    """Attacks, checks, results.json, and evaluation.json: what was asked, of which images, by which revision."""
    earlier = read_results(run.path)["checks"] if run.has("results.json") else []
    run_attacks(case, protocols, attacks, examples)
    kept = [check for check in earlier if check["model"] not in case.models]
    found = table_results(run.path, kept + processes.of_main(lambda: as_rows(run_checks(case))))
    asked: dict[str, Any] = {"protocols": protocols, "attacks": attacks, "examples": examples, "images": images}
    asked["weights"] = {name: known["weights"] for name, known in case.identities.items()}
    runs.write_json(run.file("evaluation.json"), asked | runs.provenance())
    runs.write_json(run.file("results.json"), found)
    return found


def results(source: Source) -> dict[str, list[dict[str, Any]]]:
    """What `evaluate` returned. Raises `UserError` where the run is not evaluated yet, or results.json is damaged."""
    run = open_run(source)
    if not run.has("results.json"):
        raise UserError(f"{run.path} holds no results yet: run grfd evaluate {run.path}")
    return read_results(run.path)
