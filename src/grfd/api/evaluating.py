"""Evaluation of the defenses in a run folder, and of any classifier."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from grfd import data as datasets
from grfd import processes, runs
from grfd.api.job import Own, OwnModel, Source, as_names, as_path, named_data, open_job, open_run, own_data
from grfd.api.own_images import images_to_judge, matched, with_preprocessing
from grfd.api.own_model import NamedModel, check_own, load_named, named_source
from grfd.api.pictures import write_figures
from grfd.config import Config
from grfd.data.record import Data, as_images
from grfd.defenses import DEFENSES, has_residual, is_fitted, standard
from grfd.errors import UserError
from grfd.evaluation.case import CONTROL, Case, budgets_for, check_applies, looked_at
from grfd.evaluation.checks import checked_examples, run_checks
from grfd.evaluation.corrupted import corruption_rows, judge_corruptions
from grfd.evaluation.distances import distances
from grfd.evaluation.earlier_checks import MARKS, earlier_checks, marks_before, marks_of_checks
from grfd.evaluation.judge import attack_all
from grfd.evaluation.numbers import rows
from grfd.evaluation.protocols import PROTOCOLS
from grfd.evaluation.request import Request, attacks_for
from grfd.evaluation.results import Results
from grfd.evaluation.stored import read_results
from grfd.evaluation.threat_rows import threat_rows
from grfd.models.checks import as_module, check_folder_name
from grfd.models.opened import with_plain_logits
from grfd.models.state import left_as_they_were
from grfd.report.curves import draw_curves
from grfd.runs import Run
from grfd.seeds import left_as_found
from grfd.training.job import Job
from grfd.training.loop import accelerator_for, best_device

OwnClassifier = nn.Module | Callable[[Tensor], Tensor]
"""Images [n, channel, height, width] in [0, 1] → logits [n, classes]."""


def models_of(job: Job, device: torch.device, wanted: Iterable[str] = ()) -> dict[str, nn.Module]:
    """The standard models and the defenses in `wanted`, or all that are fitted, in eval mode on the device.

    Raises `UserError` for unknown names and for defenses that are not fitted.
    """
    run, wanted = job.run, list(wanted)
    for name in wanted:
        if name not in DEFENSES:
            raise UserError(f"unknown defense {name!r}: expected one of {', '.join(DEFENSES)}")
        if not is_fitted(run, name):
            raise UserError(f"{run.path} contains no {name} yet: run grfd fit {name} --out {run.path}")
    chosen = wanted or [name for name in DEFENSES if is_fitted(run, name)]
    names = [name for name in DEFENSES if name == "standard" or name in chosen]
    models = {name: DEFENSES[name].load(job) for name in names}
    if run.has(f"{CONTROL}.safetensors"):
        models[CONTROL] = standard.load_second(job)
    return {name: model.to(device) for name, model in models.items()}


def evaluate(  # noqa: PLR0913  a call in a notebook names what it changes
    source: Source,
    protocols: Iterable[str] = tuple(PROTOCOLS),
    attacks: Iterable[str] | None = None,
    examples: int = 1000,
    data: Data | None = None,
    model: OwnModel | None = None,
    defenses: Iterable[str] = (),
    *,
    norm: str | None = None,
    eps: float | Sequence[float] = (),
    target: str | int | None = None,
    keep_images: bool = False,
    corruptions: bool = False,
    trust: bool = False,
) -> Results:
    """Attacks the models of a run on the first `examples` test images. Writes records, results.json and figures.

    `attacks`: by default those of Table 1, with A3 in the place of AutoAttack. `defenses`: the defenses to attack, in
    addition to the standard models; all fitted ones if none is named. `norm`: linf, l2 or l1, and `eps`: one or several
    values in pixels of [0, 1], instead of the budgets of Table 1. `target`: a class, least-likely or all, for targeted
    attacks. `keep_images` stores the adversarial images. `corruptions`: judge under common corruptions, too. `model`,
    `trust`: as in `load_defense`, for a run of your own model. Existing records are kept, and an interrupted evaluation
    continues.
    Raises `UserError` for unknown names and missing weights.
    """
    asked: dict[str, Any] = {"norm": norm, "eps": eps, "target": target, "keep_images": keep_images}
    request = _request(protocols, attacks, examples=examples, corruptions=corruptions, **asked)
    return evaluate_run(open_run(source), request, as_names(defenses, "defenses"), Own(data, model, trust))


def evaluate_run(run: Run, request: Request, defenses: Iterable[str], own: Own) -> Results:
    """`evaluate` with a request."""
    with left_as_found(), runs.locked(run.path):
        job = open_job(run, own)
        device = accelerator_for(run).device
        models = models_of(job, device, defenses)
        if own.model is not None or ":" in run.config.model:
            check_own(models["standard"], job.data, device, f"model {run.config.model!r}")
        budgets = budgets_for(job.data.test.images.shape[1])
        data = images_to_judge(job.data, run.path, models, request.examples, skip_broken=False)
        case = Case(run.path, models, data.test, budgets, run.config.seed, device)
        check_applies(case, request.protocols)
        case = looked_at(case)
        results = _judge(run, case, request, {"images": data.source})
        if processes.is_main():
            write_figures(case)
    return results


def evaluate_model(  # noqa: PLR0913  as `evaluate`
    model: OwnClassifier,
    out: Path | str,
    data: Data | str = "mnist",
    *,
    sources: Mapping[str, OwnClassifier] | None = None,
    protocols: Iterable[str] = ("transfer", "whitebox", "adaptive"),
    attacks: Iterable[str] | None = None,
    examples: int = 1000,
    norm: str | None = None,
    eps: float | Sequence[float] = (),
    target: str | int | None = None,
    keep_images: bool = False,
    corruptions: bool = False,
    config: Config | None = None,
) -> Results:
    """Judges any classifier, a module or a function: images [n, channel, height, width] in [0, 1] → logits.

    `out`: the folder for records, results.json and evaluation.json. `sources`: models by name on which `transfer` makes
    its examples; they are judged, too. `model` may have the attributes of a defense (`grfd.defenses`): stochastic,
    surrogate(), deterministic(). `norm`, `eps`, `target`, `keep_images`, `corruptions`: as
    in `evaluate`.

    Modules are judged in eval mode and then returned to their previous state; networks inside a function keep their
    mode. Records of other weights are replaced. Raises `UserError` for unknown names, wrong shapes, and for `transfer`
    alone without sources.
    """
    if not isinstance(sources, Mapping | None):
        raise UserError(f"sources is a {type(sources).__name__}: expected a dict of models by name")
    if "model" in (sources or {}):
        raise UserError("a source cannot be named 'model': that is the model that is judged")
    models = {**(sources or {}), "model": model}
    wanted = _applicable(as_names(protocols, "protocols"), models, sources or {})
    asked: dict[str, Any] = {"norm": norm, "eps": eps, "target": target, "keep_images": keep_images}
    request = _request(wanted, attacks, examples=examples, corruptions=corruptions, **asked)
    return evaluate_models(models, as_path(out, "out"), request, data, tuple(sources or ()), config)


def evaluate_models(
    models: Mapping[str, OwnClassifier],
    out: Path,
    request: Request,
    data: Data | str = "mnist",
    sources: tuple[str, ...] = (),
    config: Config | None = None,
) -> Results:
    """Judges several classifiers by name at once, so that transferred examples are made only once.

    `sources`: the names of those on which `transfer` makes its examples. A model named second-standard is judged under
    `transfer` only. Other arguments, result and errors are those of `evaluate_model`.
    """
    return _judged_models(models, out, request, data, Judging(sources, config))


@dataclass(frozen=True)
class Judging:
    """The sources of transfer, the configuration to record, and further facts for evaluation.json."""

    sources: tuple[str, ...] = ()
    config: Config | None = None
    about: Mapping[str, Any] = field(default_factory=dict)


def _judged_models(
    models: Mapping[str, OwnClassifier], out: Path, request: Request, data: Data | str, how: Judging
) -> Results:
    for name in models:
        check_folder_name(name)
    modules = {name: as_module(each, name) for name, each in models.items()}
    with left_as_found(), left_as_they_were(*modules.values()):
        loaded = datasets.load(data) if isinstance(data, str) else own_data(data, judged=True)
        kinds = sorted({type(each).__qualname__ for each in modules.values()})
        settings = how.config or Config(data=loaded.name, model=" + ".join(kinds))
        loaded = images_to_judge(loaded, out, models, request.examples, skip_broken=settings.skip_broken)
        modules = {name: with_plain_logits(each, as_images(loaded.test.images[:1])) for name, each in modules.items()}
        with runs.locked(out):
            device = torch.device("cpu") if settings.device == "cpu" else best_device()
            for name, each in modules.items():
                check_own(each, loaded, device, name)
            budgets = budgets_for(loaded.test.images.shape[1])
            case = Case(out, modules, loaded.test, budgets, settings.seed, device, how.sources)
            check_applies(case, request.protocols)
            run = runs.create(out, settings)
            return _judge(run, looked_at(case), request, {"images": loaded.source, **how.about})


def evaluate_named(
    model: NamedModel, sources: tuple[str, ...], out: Path, request: Request, config: Config, *, whole: bool = False
) -> Results:
    """Judges a model named on the command line. `sources`: texts as `named_source` reads them.

    `whole`: the images of all splits are judged, not only the test images.
    """
    victim = load_named(model)
    others: dict[str, OwnClassifier] = {}
    for source in map(named_source, sources):
        if source.name in others:
            raise UserError(f"source {source.name} is named twice: give each set of weights a factory of its own")
        others[source.name] = load_named(source).network
    config = with_preprocessing(config, victim)
    data = named_data(config, trust=True, whole=whole, channels=victim.channels)
    data = images_to_judge(data, out, [*others, "model"], request.examples, skip_broken=config.skip_broken)
    victim, data, found = matched(victim, data)
    models: dict[str, OwnClassifier] = {**others, "model": victim.network}
    request = replace(request, protocols=tuple(_applicable(request.protocols, models, others)))
    about = {"classes": found, "split": "all" if whole else None}
    about = {name: value for name, value in about.items() if value}
    return _judged_models(models, out, request, data, Judging(tuple(others), config, about))


def _applicable(wanted: Sequence[str], models: Mapping[str, object], sources: Mapping[str, object]) -> list[str]:
    """The protocols without those that do not apply, if the default or all of them are asked for."""
    if not set(wanted) >= {"transfer", "whitebox", "adaptive"}:
        return list(wanted)
    residual = any(has_residual(each) for each in models.values())
    inapplicable = (set() if sources else {"transfer"}) | (set() if residual else {"residual"})
    return [name for name in wanted if name not in inapplicable]


def results(source: Source) -> Results:
    """The result of the last evaluation of a run.

    Raises `UserError` if the run is not evaluated yet, or if results.json is damaged.
    """
    run = open_run(source)
    if not run.has("results.json"):
        raise UserError(f"{run.path} contains no results yet: run grfd evaluate {run.path}")
    return read_results(run.path)


def _request(protocols: object, attacks: object, **others: Any) -> Request:
    """A request from what a caller gave; a single ε and the number of a class need not be in a list or in quotes."""
    eps, target = others["eps"], others["target"]
    if not isinstance(eps, tuple | list | np.ndarray):
        eps = () if eps is None else (eps,)
    if isinstance(target, int) and not isinstance(target, bool):
        target = str(target)
    wanted = None if attacks is None else as_names(attacks, "attacks")
    names = tuple(as_names(protocols, "protocols")), attacks_for(wanted, others["norm"])
    return Request(*names, **(others | {"eps": eps, "target": target}))


def _judge(run: Run, case: Case, request: Request, facts: Mapping[str, Any]) -> Results:
    """Attacks and checks the models. Writes results.json, and evaluation.json with request, facts and versions."""
    if request.pass_images is not None:
        case = replace(case, passes=dict.fromkeys(case.models, request.pass_images))
    earlier = read_results(run.path).checks if run.has("results.json") else ()
    attack_all(case, request)
    if request.corruptions:
        processes.of_main(lambda: judge_corruptions(case, request.examples))
    kept = [check for check in earlier if check.model not in case.models]
    examples, provenance = checked_examples(case), runs.provenance()
    marks = marks_of_checks(case, examples, provenance)
    checks = kept + processes.of_main(lambda: run_checks(case, examples, earlier_checks(run.path, marks)))
    lines = (*rows(run.path), *threat_rows(run.path))
    outcome = Results(lines, tuple(checks), tuple(distances(run.path)), tuple(corruption_rows(run.path)))
    about = {name: value for name, value in vars(request).items() if value not in (None, (), False)}
    about |= facts
    about["weights"] = {name: known["weights"] for name, known in case.identities.items()}
    others = {name: mark for name, mark in marks_before(run.path).items() if name not in case.models}
    about[MARKS] = others | marks
    runs.write_json(run.file("results.json"), outcome.to_json())
    # it says which findings in results.json are still true, so it must not be the newer of the two
    runs.write_json(run.file("evaluation.json"), about | provenance)
    if processes.is_main():
        draw_curves(outcome.rows, run.path)
    return outcome
