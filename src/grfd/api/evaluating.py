"""What a run is attacked with and what came of it: of grfd's own runs, and of any classifier."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from grfd import data as datasets
from grfd import processes, runs
from grfd.api.job import Own, OwnModel, Source, as_names, as_path, named_data, open_job, open_run, own_data
from grfd.api.own_model import NamedModel, check_own, load_named, named_source
from grfd.api.pictures import write_figures
from grfd.attacks import TABLE_1_ATTACKS
from grfd.config import Config
from grfd.data.record import Data
from grfd.defenses import DEFENSES, has_residual, is_fitted, standard
from grfd.errors import UserError
from grfd.evaluation.case import CONTROL, Case, Request, budgets_for, check_applies, check_budgets, looked_at
from grfd.evaluation.checks import run_checks
from grfd.evaluation.judge import attack_all
from grfd.evaluation.numbers import Results, rows
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.stored import read_results
from grfd.models.checks import as_module, check_folder_name
from grfd.models.state import left_as_they_were
from grfd.runs import Run
from grfd.seeds import left_as_found
from grfd.training.job import Job
from grfd.training.loop import accelerator_for, best_device

OwnClassifier = nn.Module | Callable[[Tensor], Tensor]
"""Images [n, channel, height, width] in [0, 1] → logits [n, classes]."""


def models_of(job: Job, device: torch.device, wanted: Iterable[str] = ()) -> dict[str, nn.Module]:
    """The defenses that are fitted, or those wanted, in eval mode, and the standard models.

    Raises `UserError` for an unknown name and for one that is not fitted.
    """
    run, wanted = job.run, list(wanted)
    for name in wanted:
        if name not in DEFENSES:
            raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)}")
        if not is_fitted(run, name):
            raise UserError(f"{run.path} holds no {name} yet: run grfd fit {name} --out {run.path}")
    chosen = wanted or [name for name in DEFENSES if is_fitted(run, name)]
    names = [name for name in DEFENSES if name == "standard" or name in chosen]
    models = {name: DEFENSES[name].load(job) for name in names}
    if run.has(f"{CONTROL}.safetensors"):
        models[CONTROL] = standard.load_second(job)
    return {name: model.to(device) for name, model in models.items()}


def evaluate(
    source: Source,
    protocols: Iterable[str] = tuple(PROTOCOLS),
    attacks: Iterable[str] = TABLE_1_ATTACKS,
    examples: int = 1000,
    data: Data | None = None,
    model: OwnModel | None = None,
    defenses: Iterable[str] = (),
    *,
    trust: bool = False,
) -> Results:
    """Attacks the run's models on the first `examples` test images; writes records, results.json and figures.

    `defenses`: those to attack, the standard models besides; all that are fitted where none is named. `model` or
    `trust=True`: a run of your own model imports no code without one of them (see `load_defense`).
    What is recorded already is kept; a killed evaluation continues. Raises `UserError` for unknown names and missing
    weights.
    """
    request = _request(protocols, attacks, examples)
    return evaluate_run(open_run(source), request, as_names(defenses, "defenses"), Own(data, model, trust))


def evaluate_run(run: Run, request: Request, defenses: Iterable[str], own: Own) -> Results:
    """`evaluate` of a request."""
    with left_as_found(), runs.locked(run.path):
        job = open_job(run, own)
        device = accelerator_for(run).device
        models = models_of(job, device, defenses)
        if own.model is not None or ":" in run.config.model:
            check_own(models["standard"], job.data, device, f"model {run.config.model!r}")
        budgets = budgets_for(job.data.test.images.shape[1])
        case = Case(run.path, models, job.data.test, budgets, run.config.seed, device)
        check_applies(case, request.protocols)
        case = looked_at(case)
        results = _judge(run, case, request, job.data.source)
        if processes.is_main():
            write_figures(case)
    return results


def evaluate_model(
    model: OwnClassifier,
    out: Path | str,
    data: Data | str = "mnist",
    *,
    sources: Mapping[str, OwnClassifier] | None = None,
    protocols: Iterable[str] = ("transfer", "whitebox", "adaptive"),
    attacks: Iterable[str] = TABLE_1_ATTACKS,
    examples: int = 1000,
    eps: float | None = None,
    config: Config | None = None,
) -> Results:
    """Judges any classifier, a module or a function: images [n, channel, height, width] in [0, 1] → logits.

    `out`: the folder for records, results.json and evaluation.json. `sources`: models by name on which `transfer` makes
    its examples; they are judged beside it. `model` may say of itself what a defense says (`grfd.defenses`):
    stochastic, surrogate(), deterministic(). `eps`: one budget for all attacks, in pixels of [0, 1], in place of Table
    1's. Every model is asked in eval mode, and given back as it was; the networks that a function calls keep their
    mode. Records of other weights are made anew. Raises `UserError` for unknown names, wrong shapes, and transfer alone
    without a source.
    """
    if not isinstance(sources, Mapping | None):
        raise UserError(f"sources is a {type(sources).__name__}: expected a dict of models by name")
    if "model" in (sources or {}):
        raise UserError("a source cannot be named 'model': that is the model that is judged")
    models = {**(sources or {}), "model": model}
    wanted = as_names(protocols, "protocols")
    if {"transfer", "whitebox", "adaptive"} <= set(wanted):  # the default, or all of them: those that apply
        residual = any(has_residual(each) for each in models.values())
        useless = (set() if sources else {"transfer"}) | (set() if residual else {"residual"})
        wanted = [name for name in wanted if name not in useless]
    request = _request(wanted, attacks, examples, eps)
    return evaluate_models(models, as_path(out, "out"), request, data, tuple(sources or ()), config)


def evaluate_models(
    models: Mapping[str, OwnClassifier],
    out: Path,
    request: Request,
    data: Data | str = "mnist",
    sources: tuple[str, ...] = (),
    config: Config | None = None,
) -> Results:
    """Judges several classifiers by name side by side, so that what transfers is crafted once for all of them.

    `sources`: those of them on which `transfer` makes its examples. A model named second-standard is judged under
    `transfer` alone. Other arguments, result and errors are those of `evaluate_model`.
    """
    for name in models:
        check_folder_name(name)
    modules = {name: as_module(each, name) for name, each in models.items()}
    with left_as_found(), left_as_they_were(*modules.values()):
        loaded = datasets.load(data) if isinstance(data, str) else own_data(data)
        kinds = sorted({type(each).__qualname__ for each in modules.values()})
        settings = config or Config(data=loaded.name, model=" + ".join(kinds))
        with runs.locked(out):
            device = torch.device("cpu") if settings.device == "cpu" else best_device()
            for name, each in modules.items():
                check_own(each, loaded, device, name)
            budgets = budgets_for(loaded.test.images.shape[1], request.eps)
            check_budgets(budgets, request.attacks)
            case = Case(out, modules, loaded.test, budgets, settings.seed, device, sources)
            check_applies(case, request.protocols)
            run = runs.create(out, settings)
            return _judge(run, looked_at(case), request, loaded.source)


def evaluate_named(model: NamedModel, sources: tuple[str, ...], out: Path, request: Request, config: Config) -> Results:
    """`evaluate_model` of a model that the command line names; `sources` are those of `named_source`."""
    network = load_named(model)
    others: dict[str, OwnClassifier] = {}
    for source in map(named_source, sources):
        if source.name in others:
            raise UserError(f"source {source.name} is named twice: give each set of weights a factory of its own")
        others[source.name] = load_named(source)
    return evaluate_model(network, out, named_data(config), sources=others, config=config, **vars(request))


def results(source: Source) -> Results:
    """What `evaluate` returned. Raises `UserError` where the run is not evaluated yet, or results.json is damaged."""
    run = open_run(source)
    if not run.has("results.json"):
        raise UserError(f"{run.path} holds no results yet: run grfd evaluate {run.path}")
    return read_results(run.path)


def _request(protocols: object, attacks: object, examples: object, eps: object = None) -> Request:
    names = tuple(as_names(protocols, "protocols")), tuple(as_names(attacks, "attacks"))
    return Request(*names, examples, eps)  # type: ignore[arg-type]  # a Request checks its values


def _judge(run: Run, case: Case, request: Request, images: str) -> Results:
    """Attacks, checks, results.json, and evaluation.json: what was asked, of which images, by which revision."""
    earlier = read_results(run.path).checks if run.has("results.json") else ()
    attack_all(case, request)
    kept = [check for check in earlier if check.model not in case.models]
    checks = kept + processes.of_main(lambda: run_checks(case))
    found = Results(tuple(rows(run.path)), tuple(checks))
    asked: dict[str, Any] = {"protocols": list(request.protocols), "attacks": list(request.attacks)}
    asked |= {"examples": request.examples, "images": images} | ({"eps": request.eps} if request.eps else {})
    asked["weights"] = {name: known["weights"] for name, known in case.identities.items()}
    runs.write_json(run.file("evaluation.json"), asked | runs.provenance())
    runs.write_json(run.file("results.json"), found.to_json())
    return found
