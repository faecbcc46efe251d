"""Hostile input for every command and every option: each gets one line and exit code 2, and nothing on disk changes.

Commands and options are read from the code. A new command, or a new option, needs a row here.
"""

import contextlib
import inspect
import io
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from grfd import cli, runs
from grfd.commands.arguments import _number_or_fraction, options_of
from grfd.commands.registry import COMMANDS
from grfd.commands.train import TRAINING, Training, fit_settings
from grfd.config import Config
from grfd.defenses import DEFENSES

LONG = "a" * 300

SETTINGS: dict[str, tuple[str, str]] = {
    "data": ("minst", "unknown dataset 'minst'"),
    "data-dir": ("nowhere", "nowhere"),
    "resize": ("0", "resize must be at least 1, got 0"),
    "crop": ("224.5", "--crop must be a whole number, got '224.5'"),
    "skip-broken": ("yes", "yes"),
    "train-examples": ("0", "train_examples must be at least 1, got 0"),
    "model": ("lenet6", "unknown model 'lenet6'"),
    "weights": ("nowhere.pt", "nowhere.pt is not there"),
    "autoencoder": ("large", "--autoencoder"),
    "robust-part": ("both", "--robust-part"),
    "latent": ("1000000000", "latent must be at most 100,000"),
    "epochs": ("-1", "epochs must be at least 1, got -1"),
    "classifier-epochs": ("1.5", "--classifier-epochs must be a whole number, got '1.5'"),
    "augmentation": ("flip", "--augmentation"),
    "batch": ("9223372036854775808", "batch must be at most"),
    "passes": ("0", "passes must be at least 1, got 0"),
    "learning-rate": ("nan", "learning_rate must be a finite number, got nan"),
    "classifier-learning-rate": ("inf", "classifier_learning_rate must be a finite number, got inf"),
    "weight-decay": ("-0.1", "weight_decay must be at least 0, got -0.1"),
    "seed": ("-1", "seed must be at least 0, got -1"),
    "alpha": ("1 2 nan", "alpha[2] must be a finite number, got"),
    "beta": ("-1", "beta must be at least 0, got -1"),
    "epsilon": ("much", "--epsilon must be a number, got 'much'"),
    "gamma": ("-inf", "gamma must be a finite number, got -inf"),
    "delta": ("1e300", "delta must be at most"),
    "reconstruction": ("median", "--reconstruction"),
    "kl": ("nope", "--kl"),
    "sigma": ("0", "sigma must be at least"),
    "perturbation": ("uniform", "--perturbation"),
    "similarity": ("l3", "--similarity"),
    "gradient-of": ("loss", "--gradient-of"),
    "rsm-gradient": ("both", "--rsm-gradient"),
    "game": ("zero-sum", "--game"),
    "batch-norm": ("none", "--batch-norm"),
    "latent-at-inference": ("median", "--latent-at-inference"),
    "robust-dataset": ("twice", "--robust-dataset"),
    "target-start": ("warm", "--target-start"),
    "device": ("gpu", "--device"),
    "precision": ("float8", "--precision"),
    "channels-last": ("yes", "yes"),
    "out": ("file", "file"),
    "config": ("wrong.toml", "wrong.toml: unknown field 'gama'"),
    "trust": ("yes", "yes"),
}
"""Option of every training command → a value, and what is said of it."""

RECIPE_VALUES = ("hostile", "nan", "-1")
"""No field of any recipe takes one of these."""

ROWS: dict[str, dict[str, list[tuple[str, str]]]] = {
    "demo": {
        "out": [("--out file", "file"), (f"--out {LONG}", "File name too long"), ("--out foreign", "foreign")],
        "examples": [
            ("--examples -1", "--examples must be at least 1, got -1"),
            ("--examples 0", "at least 1"),
            ("--examples many", "--examples must be a whole number, got 'many'"),
        ],
        "json": [("--json=yes", "--json takes no value")],
    },
    "evaluate": {
        "run": [
            ("", "expected a run folder, or --model"),
            ("nowhere", "nowhere holds no run"),
            ("file", "file"),
            ("'[/red]'", "[/red] holds no run"),
            (LONG, "File name too long"),
            ("a b", "Unrecognized options: b"),
        ],
        "protocols": [
            ("run --protocols guessing", "invalid choice 'guessing'"),
            ("run --protocols", "--protocols has no value"),
            ("run --protocols transfer transfer", "transfer is named twice"),
        ],
        "attacks": [
            ("run --attacks nope", "unknown attack 'nope'"),
            ("run --attacks", "--attacks has no value"),
            ("run --attacks pgd fgsm pgd", "pgd is named twice"),
            ("--model m:f --out new --attacks nope", "unknown attack 'nope'"),
        ],
        "examples": [("run --examples 0", "at least 1"), ("run --examples 1e3", "whole number, got '1e3'")],
        "defenses": [
            ("run --defenses magic", "unknown defense 'magic'"),
            ("--model m:f --out new --defenses grfd", "--defenses does not apply to grfd evaluate --model"),
        ],
        "model": [
            ("run --model m:f --out new", "and not both"),
            ("--model m --out new", "package.module:factory"),
            ("--model hf/foreign --out new", "foreign has no config.json"),
            ("--model hf/nowhere --out new", "nowhere is no directory; expected hf/DIRECTORY or hf/ORG/NAME"),
            ("--model nowhere.pt2 --out new", "nowhere.pt2 is not there"),
            ("--model file.pt2 --out new", "file.pt2 cannot be read as a program of torch.export"),
            ("--model file.pt --out new", "file.pt holds no TorchScript program"),
        ],
        "weights": [
            ("run --weights w.safetensors", "--weights does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --weights nowhere", "nowhere"),
            ("--model torch.nn:Identity --out new --weights file.pt", "file.pt cannot be read as weights alone"),
            ("--model file.pt --out new --weights file.pt", "--weights does not apply to file.pt"),
        ],
        "adapter": [
            ("run --adapter m:f", "--adapter does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --adapter nowhere:f", "nowhere"),
        ],
        "sources": [
            ("run --sources m:f", "--sources does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --sources m:f m:f", "m:f is named twice"),
        ],
        "pass_images": [("run --pass-images 0", "--pass-images must be at least 1, got 0")],
        "data": [
            ("run --data mnist", "--data does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --data minst", "minst"),
            ("--model torch.nn:Identity --out new --data nowhere:make", "nowhere"),
            ("--model torch.nn:Identity --out new --data math:pi", "pi is no function or class that makes a data"),
        ],
        "data_dir": [
            ("run --data-dir foreign", "--data-dir does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --data folder --data-dir nowhere", "nowhere"),
        ],
        "split": [
            ("run --split all", "--split does not apply to grfd evaluate RUN"),
            ("--model m:f --out new --split train", "--split"),
        ],
        "resize": [
            ("run --resize 256", "--resize does not apply to grfd evaluate RUN"),
            ("--model m:f --out new --resize 0", "--resize must be at least 1, got 0"),
        ],
        "crop": [
            ("run --crop 224", "--crop does not apply to grfd evaluate RUN"),
            ("--model torch.nn:Identity --out new --crop 64", "smaller than the crop of 64×64"),
            ("--model m:f --out new --crop half", "--crop must be a whole number, got 'half'"),
        ],
        "skip_broken": [("run --skip-broken", "--skip-broken does not apply to grfd evaluate RUN")],
        "eps": [
            ("run --eps 0.1 0.1", "--eps: 0.1 is named twice"),
            ("--model m:f --out new --eps nan", "--eps[0] must be a finite number, got nan"),
            ("--model m:f --out new --eps 0.1 -0.2", "--eps[1] must be at least 0, got -0.2"),
            ("--model m:f --out new --eps much", "--eps cannot be read: 'much'"),
            ("--model m:f --out new --eps 1.5", "more than the range of a pixel"),
        ],
        "norm": [
            ("run --norm l3", "--norm"),
            ("run --norm l2 --attacks vmifgsm", "attack vmifgsm does not support L2, but L∞. These do: fgsm"),
        ],
        "target": [
            ("run --target cat", "target 'cat': expected the number of a class"),
            ("run --target -1", "expected the number of a class"),
        ],
        "keep_images": [("run --keep-images yes", "yes"), ("nowhere --keep-images", "nowhere holds no run")],
        "report": [("run --report yes", "yes"), ("nowhere --report", "nowhere holds no run")],
        "corruptions": [("run --corruptions yes", "yes"), ("nowhere --corruptions", "nowhere holds no run")],
        "out": [
            ("run --out new", "--out does not apply to grfd evaluate RUN"),
            ("--model m:f", "expected --out FOLDER"),
            ("--model torch.nn:Identity --out ''", "--out is empty"),
        ],
        "config": [
            ("run --config nowhere.toml", "nowhere.toml is not there"),
            ("run --config foreign", "foreign is a folder"),
            ("run --config file", "file cannot be read as TOML"),
            ("run --config broken/config.json", "broken/config.json cannot be read as JSON"),
            ("run --config run/config.json", "run/config.json: unknown option 'data'"),
            ("run --config wrong.toml", "wrong.toml: unknown option 'gama': expected one of"),
            ("run --config many.toml", "many.toml: --examples must be a whole number, got 'many'"),
            ("run --config table.toml", "table.toml: examples is {'first': 1}: expected text, a number, or a list"),
            ("run --config trust.toml", "trust.toml: unknown option 'trust'"),
            ("run --config dashes.toml", "dashes.toml: out is '--trust': no value begins with a dash"),
            ("--config eps.toml", "expected a run folder, or --model"),
        ],
        "trust": [
            ("run --trust=yes", "--trust takes no value"),
            ("--model m:f --out new --trust", "--trust does not apply to grfd evaluate --model"),
        ],
        "json": [("nowhere --json", "nowhere holds no run"), ("run --json --json", "--json is given twice")],
    },
    "show": {
        "run": [
            ("", "PATH"),
            ("run", "contains no results yet"),
            ("nowhere", "nowhere holds no run"),
            ("run run", "Unrecognized options: run"),
            ("broken", "broken/config.json"),
        ],
        "csv": [("run --csv new.csv", "contains no results yet"), ("run --csv", "--csv")],
        "parquet": [("run --parquet new.parquet", "contains no results yet"), ("run --parquet", "--parquet")],
        "robustbench": [("run --robustbench new.json", "--robustbench FILE and --model NAME belong together")],
        "model": [("run --model grfd", "--robustbench FILE and --model NAME belong together")],
        "tensorboard": [("run --tensorboard logs", "contains no results yet"), ("run --tensorboard", "--tensorboard")],
        "json": [("nowhere --json", "nowhere holds no run"), ("run --jsn", "did you mean --json?")],
    },
    "report": {
        "runs": [
            ("", "expected at least one run folder"),
            ("nowhere", "nowhere holds no run"),
            ("run", "contains no results yet: run grfd evaluate run"),
            ("broken", "broken/config.json"),
            ("run run", "run is named twice"),
            ("file", "file"),
        ],
        "out": [
            ("run --out new.txt", "expected the name of a file that ends in .html"),
            ("run --out nowhere/new.html", "nowhere is no folder: make it first"),
            ("run --out ''", "--out is empty"),
        ],
        "trust": [("run --trust yes", "yes"), ("nowhere --trust", "nowhere holds no run")],
        "json": [("run --json", "contains no results yet"), ("run --json=yes", "--json takes no value")],
    },
    "disentangle": {
        "run": [
            ("nowhere --out a.npz", "nowhere holds no run"),
            ("run --out a.npz", "lvcvae.safetensors is not there"),
        ],
        "split": [("run --out a.npz --split half", "--split"), ("run --out a.npz --split", "--split has no value")],
        "out": [("run", "--out"), ("run --out ''", "--out is empty"), ("run --out '  '", "--out is empty")],
        "json": [("nowhere --out a.npz --json", "nowhere holds no run")],
    },
    "predict": {
        "run": [
            ("", "PATH"),
            ("nowhere '[red]x.png'", "nowhere holds no run"),
            ("'[red]' x.png", "[red] holds no run"),
        ],
        "images": [("run", "no image given"), ("run ''", "empty")],
        "defense": [("run x.png --defense magic", "unknown defense 'magic'"), ("run x.png --defense trades", "trades")],
        "trust": [("run x.png --trust=1", "--trust takes no value")],
        "json": [("run x.png --json --json", "--json is given twice")],
    },
    "export": {
        "run": [("", "STR"), ("nowhere grfd --out new", "nowhere holds no run")],
        "defense": [
            ("run --out new", "STR"),
            ("run magic --out new", "unknown defense 'magic'"),
            ("run trades --out new", "trades"),
        ],
        "out": [("run grfd", "--out"), ("run grfd --out file", "file is a file: expected a folder")],
        "format": [("run grfd --out new --format h5", "invalid choice 'h5'")],
        "trust": [("run grfd --out new --trust=1", "--trust takes no value")],
        "json": [("run grfd --out new --json=yes", "--json takes no value")],
    },
    "harden": {
        "model": [("--out new", "--model"), ("--model nope --data mnist --out new", "unknown model 'nope'")],
        "out": [("--model lenet5", "--out"), ("--model lenet5 --data mnist --out file", "file")],
        "weights": [("--model lenet5 --data mnist --weights nowhere --out new", "nowhere is not there")],
        "data": [("--model lenet5 --data minst --out new", "unknown dataset 'minst'")],
        "data_dir": [("--model lenet5 --data-dir nowhere --out new", "nowhere is not a folder")],
        "resize": [("--model lenet5 --resize 0 --out new", "--resize must be at least 1, got 0")],
        "crop": [("--model lenet5 --crop many --out new", "--crop must be a whole number, got 'many'")],
        "skip_broken": [("--model lenet5 --skip-broken=1 --out new", "--skip-broken takes no value")],
        "train_examples": [("--model lenet5 --train-examples 0 --out new", "at least 1, got 0")],
        "eps": [
            ("--model lenet5 --out new --eps 4", "did you mean 4/255?"),
            ("--model lenet5 --out new --eps nan", "--eps must be"),
        ],
        "minutes": [("--model lenet5 --out new --minutes -1", "--minutes must be more than 0")],
        "examples": [("--model lenet5 --out new --examples 0", "--examples must be at least 1, got 0")],
        "batch": [("--model lenet5 --out new --batch 0", "--batch must be at least 1, got 0")],
        "epochs": [("--model lenet5 --out new --epochs 0", "--epochs must be at least 1, got 0")],
        "seed": [("--model lenet5 --out new --seed -1", "--seed must be at least 0, got -1")],
        "json": [("--model lenet5 --out new --json=yes", "--json takes no value")],
    },
    "models": {
        "folder": [("nowhere", "nowhere is not there"), ("file", "file is no folder")],
        "json": [("--json x y", "Unrecognized options: y"), ("--jsn", "did you mean --json?")],
    },
    "data": {"json": [("--json x", "Unrecognized options: x"), ("--jsn", "did you mean --json?")]},
    "bench": {
        "what": [("", "attacks,parity"), ("speed", "invalid choice 'speed'")],
        "attacks": [
            ("attacks --attacks nope", "unknown attack 'nope'"),
            ("parity --attacks", "--attacks has no value"),
        ],
        "models": [
            ("attacks --models lenet5 nope", "unknown model 'nope'"),
            ("passes --models nope", "unknown model 'nope': expected RUN/DEFENSE"),
            ("passes --models nowhere/grfd", "nowhere holds no run"),
            ("attacks --models", "has no value"),
        ],
        "examples": [("attacks --examples 0", "--examples must be at least 1, got 0")],
        "repeats": [
            ("parity --repeats 0", "--repeats must be at least 1, got 0"),
            ("transfer --repeats 2", "--repeats does not apply to grfd bench transfer"),
        ],
        "out": [("attacks --out ''", "--out is empty"), ("parity --out file", "--out file is a file")],
        "save": [
            ("attacks --save ''", "--save is empty"),
            ("attacks --save file", "--save file is there and contains no benchmark"),
            ("transfer --save broken/config.json", "contains no benchmark"),
            ("parity --save foreign", "foreign is a folder"),
        ],
        "data_dir": [("attacks --data-dir x", "--data-dir does not apply to grfd bench without passes")],
        "json": [("attacks --json --examples -5", "--examples must be at least 1, got -5")],
    },
    "bench train": {
        "name": [("", "STR"), ("slow", "unknown preset 'slow'"), ("quick quick", "Unrecognized options: quick")],
        "batch": [("quick --batch 0", "--batch must be at least 1, got 0")],
        "steps": [("quick --steps 0", "--steps must be at least 1, got 0"), ("quick --steps 1e9", "whole number")],
        "precision": [("quick --precision float8", "--precision")],
        "device": [("quick --device tpu", "--device")],
        "json": [("quick --json=1", "--json takes no value")],
    },
    "reproduce": {
        "name": [("nope", "unknown experiment 'nope'"), ("nope --list", "unknown experiment 'nope'")],
        "dataset": [
            ("table2 --dataset mnits", "--dataset"),
            ("--list --dataset cifar10", "--dataset does not apply to grfd reproduce --list"),
            ("rsm --dataset cifar10", "unknown scale 'cifar10-quick'"),
        ],
        "data_dir": [
            ("table2 --data-dir foreign", "--data-dir does not apply to grfd reproduce on MNIST"),
            ("--list --data-dir foreign", "--data-dir does not apply to grfd reproduce --list"),
        ],
        "scale": [
            ("--list --scale bogus", "unknown scale 'bogus'"),
            ("table2 --scale bogus --dry-run", "unknown scale 'bogus'"),
        ],
        "seeds": [
            ("--seeds 0", "--seeds must be at least 1, got 0"),
            ("table2 --seeds 1000000000 --dry-run", "--seeds must be at most 1,000"),
            ("table2 --seeds two", "--seeds must be a whole number, got 'two'"),
        ],
        "out": [("--out new", "--out does not apply to grfd reproduce --list"), ("table2 --out ''", "--out is empty")],
        "shard": [
            ("law --shard 3/2", "--shard must be K/N"),
            ("law --shard 1", "--shard must be K/N"),
            ("--list --shard 1/2", "--shard does not apply to grfd reproduce --list"),
        ],
        "store": [
            ("law --store nope://bucket", "--store nope://bucket: Protocol not known: nope"),
            ("law --store ''", "--store is empty"),
            ("law --store bucket/runs", "--store bucket/runs: expected a URL"),
            ("law --dry-run --store memory://b", "--store does not apply to grfd reproduce --dry-run"),
            ("--list --store memory://b", "--store does not apply to grfd reproduce --list"),
        ],
        "dry_run": [("--dry-run", "--dry-run does not apply to grfd reproduce --list")],
        "list": [("--list --list", "--list is given twice"), ("--list=all", "--list takes no value")],
        "json": [("nope --json", "unknown experiment 'nope'"), ("--list --json=1", "--json takes no value")],
    },
    "sweep": {
        "scale": [("--scale bogus --dry-run", "unknown scale 'bogus'")],
        "seed": [("--seed -1 --dry-run", "--seed must be at least 0, got -1")],
        "epsilon": [("--epsilon 0.45", "epsilon 0.45: expected of"), ("--epsilon 0 0.0", "is named twice")],
        "gamma": [("--gamma nan", "gamma"), ("--gamma", "--gamma has no value")],
        "delta": [("--delta 3 --dry-run", "delta 3: expected of"), ("--delta x", "--delta")],
        "out": [("--out file", "file"), ("--out '' --dry-run", "--out is empty")],
        "storage": [
            ("--dry-run --storage nonsense", "nonsense: cannot be used"),
            ("--storage sqlite:////nowhere/x.db", "sqlite:////nowhere/x.db: cannot be used"),
            ("--dry-run --storage mysql://me:hunter2@host/db", "mysql://me:***@host/db: its driver is not installed"),
            ("--dry-run --storage postgresql+psycopg://me:hunter2@127.0.0.1:x/d", "me:***@127.0.0.1:x/d: cannot be"),
            ("--dry-run --storage 'mysql://h/d?user=me&password=hunter2'", "password=***"),
            ("--storge postgresql://me:hunter2@host/db", "did you mean --storage?"),
            ("--trials postgresql://me:hunter2@host/db", "me:***@host"),
            ("postgresql://me:hunter2@host/db", "me:***@host"),
        ],
        "study": [("--study '' --dry-run", "--study is empty")],
        "objective": [("--objective best", "--objective")],
        "pruner": [
            ("--pruner median --objective clean-and-worst", "a pruner needs one objective"),
            ("--pruner median --dry-run", "--pruner does not apply to grfd sweep --dry-run"),
        ],
        "trials": [
            ("--trials 0", "--trials must be at least 1, got 0"),
            ("--trials 3 --dry-run", "--trials does not apply to grfd sweep --dry-run"),
        ],
        "dry_run": [("--dry-run --no-dry-run", "--dry-run is given twice")],
        "json": [("--json --scale bogus --dry-run", "unknown scale 'bogus'")],
    },
    "keep": {
        "run": [
            ("", "PATH"),
            ("nowhere", "nowhere holds no run"),
            ("file", "file"),
            ("run", "run lies below no folder named runs"),
            ("broken", "broken/config.json"),
        ],
        "results": [
            ("runs/kept --results file", "file"),
            ("runs/kept --results ''", "--results is empty"),
            (f"runs/kept --results {LONG}", "File name too long"),
        ],
        "replace": [("runs/kept --replace=yes", "--replace takes no value")],
        "json": [("nowhere --json", "nowhere holds no run")],
    },
    "completion": {"shell": [("", "bash,zsh,fish"), ("tcsh", "invalid choice 'tcsh'"), ("bash zsh", "zsh")]},
    "page": {
        "results": [("--results nowhere --out new", "nowhere holds no"), ("--results ''", "--results is empty")],
        "out": [("--out", "--out has no value"), ("--out ''", "--out is empty")],
        "json": [("--results nowhere --out new --json", "nowhere holds no")],
    },
}
"""Command → parameter → command lines, each with words of the line that it gets."""

WHOLE: list[tuple[str, str]] = [
    ("trian quick", "unknown command 'trian'"),
    ("--version now", "nothing can follow --version"),
    ("--help me", "nothing can follow --help"),
    ("-x", "unknown command '-x'"),
    ("''", "unknown command ''"),
    ("data x", "Unrecognized options: x"),
    ("fit magic", "unknown defense 'magic'"),
    ("fit pgd-at", "--out"),
    ("fit pgd-at magic --out new", "unknown preset 'magic'"),
    ("fit pgd-at --out file", "file"),
    ("fit pgd-at --out broken", "broken/config.json"),
    (f"fit pgd-at --out {LONG}", "File name too long"),
    ("train fast --out new", "unknown preset 'fast'"),
    ("train quick", "--out"),
    ("train quick new", "--out"),
    ("train --out new", "expected a preset, one of mnist-lenet5"),
    ("train quick --out new --trust", "--trust does not apply to grfd train without --config"),
    ("train --out new --config nowhere.toml", "nowhere.toml is not there"),
    ("train --out new --config file", "file cannot be read as TOML"),
    ("train --out new --config many.toml", "many.toml: unknown field 'examples'"),
    ("train --out new --config zero.toml", "zero.toml: epochs must be at least 1, got 0"),
    ("train --out new --config code.json", "the model 'helper:make', which is not imported without your consent"),
    ("fit pgd-at --out new --config code.json", "the model 'helper:make', which is not imported without your consent"),
    ("train --out new --config data.json", "the data 'helper:make', which is not imported without your consent"),
    ("train --out new --config data.json --model lenet5", "the data 'helper:make', which is not imported without"),
    ("fit pgd-at --out new --config data.json", "the data 'helper:make', which is not imported without your consent"),
    ("fit pgd-at --out new --config recipe.toml", "recipe.toml: recipe of pgd-at: unknown field 'epoch'"),
    ("train quick --out '[/x]' --epochs 0", "epochs must be at least 1, got 0"),
    ("train quick --out foreign", "foreign"),
    (f"train quick --out {LONG}", "File name too long"),
    ("train quick --out file/run", "file/run"),
    ("train quick --out new --alpha 1 2", "Missing value for argument '--alpha'"),
    ("train quick --out new --alpha 1 2 3 4", "Unrecognized options: 4"),
    ("train --help me", "nothing can follow --help"),
    ("bench", "attacks,parity"),
    ("bench trian quick", "invalid choice 'trian'"),
]
"""What concerns no option, or several."""


CONFIGS = {
    "wrong.toml": "gama = 0.1",
    "many.toml": "examples = 'many'",
    "zero.toml": "epochs = 0",
    "table.toml": "[examples]\nfirst = 1",
    "trust.toml": "trust = true",
    "dashes.toml": "out = '--trust'",
    "eps.toml": "eps = 0.1",
    "code.json": '{"config": {"model": "helper:make"}}',
    "data.json": '{"config": {"data": "helper:make"}}',
    "recipe.toml": "[recipe]\nepoch = 3",
}
"""Files for --config, each with something wrong about it."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder: a run without weights, a broken one, a folder of somebody else's, a file."""
    folder = tmp_path_factory.mktemp("place")
    earlier = Path.cwd()
    os.chdir(folder)
    runs.create(folder / "run", Config(device="cpu"))
    runs.create(folder / "runs" / "kept", Config(device="cpu"))
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text("{")
    (folder / "foreign" / "sub").mkdir(parents=True)
    (folder / "foreign" / "sub" / "draft.tmp").write_text("mine")
    (folder / "foreign" / "a.txt").write_text("mine")
    for name in ("file", "file.pt", "file.pt2"):
        (folder / name).write_text("mine")
    for name, text in CONFIGS.items():
        (folder / name).write_text(text)
    yield folder
    os.chdir(earlier)


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(place: Path, command: str, expected: str) -> str:
    """Runs a command line in this process. Returns what is wrong with the answer."""
    before = content(place)
    code, said = answer(shlex.split(command))
    found = {
        f"does not say {expected!r}": expected not in said,
        f"exit code {code}": code != 2,
        "is not one line": not said.startswith("grfd: ") or said.count("\n") != 1,
        "tells the password": "hunter2" in said,
        "changes the disk": content(place) != before,
    }
    problems = [problem for problem, there in found.items() if there]
    return f"grfd {command}: {'; '.join(problems)}: {said}" if problems else ""


def answer(arguments: list[str]) -> tuple[object, str]:
    """Exit code and standard error of the command, without a process of its own: importing takes seconds."""
    said, earlier = io.StringIO(), sys.argv
    sys.argv = ["grfd", *arguments]
    code: object = 0
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            cli.main()
    except SystemExit as stop:
        code = stop.code
    except Exception as error:
        return 1, f"Traceback: {type(error).__name__}: {error}"
    finally:
        sys.argv = earlier
    return code, said.getvalue()


def test_every_parameter_of_every_command_has_a_row() -> None:
    assert ROWS.keys() == COMMANDS.keys()
    for command, function in COMMANDS.items():
        assert ROWS[command].keys() == inspect.signature(function).parameters.keys(), command
        assert all(ROWS[command].values()), command
    assert SETTINGS.keys() == options_of(Training).names


@pytest.mark.parametrize("command", [command for command in ROWS if ROWS[command]])
def test_each_row_is_one_line(place: Path, command: str) -> None:
    rows = [row for several in ROWS[command].values() for row in several]
    problems = [refused(place, f"{command} {arguments}", expected) for arguments, expected in rows]
    assert not any(problems), "\n".join(filter(None, problems))


def test_what_concerns_no_option_is_one_line(place: Path) -> None:
    problems = [refused(place, command, expected) for command, expected in WHOLE]
    assert not any(problems), "\n".join(filter(None, problems))


@pytest.mark.parametrize("command", TRAINING)
def test_each_setting_is_checked(place: Path, command: str) -> None:
    problems = []
    for name, (value, expected) in SETTINGS.items():
        out = "" if name == "out" else "--out new"
        problems.append(refused(place, f"{command} quick {out} --{name} {value}", expected))
    assert not any(problems), "\n".join(filter(None, problems))


@pytest.mark.parametrize("defense", DEFENSES)
def test_each_field_of_each_recipe_is_checked(place: Path, defense: str) -> None:
    problems = []
    for field in fields(DEFENSES[defense].Recipe):
        name = f"recipe.{field.name.replace('_', '-')}"
        flag = name in options_of(fit_settings(defense)).flags
        for value in RECIPE_VALUES:
            given = f"--{name}={value}" if flag else f"--{name} {value}"
            problems.append(refused(place, f"fit {defense} --out new {given}", field.name.partition("_")[0]))
    assert not any(problems), "\n".join(filter(None, problems))


def test_settings_of_a_fit_are_checked(place: Path) -> None:
    problems = []
    for name, (value, expected) in SETTINGS.items():
        out = "" if name == "out" else "--out new"
        problems.append(refused(place, f"fit bit-depth quick {out} --{name} {value}", expected))
    assert not any(problems), "\n".join(filter(None, problems))


def test_each_option_is_refused_without_a_value_or_twice(place: Path) -> None:
    calls = {command: options_of(function) for command, function in COMMANDS.items()}
    calls |= {f"{command} quick": options_of(Training) for command in TRAINING}
    calls |= {f"fit {defense}": options_of(fit_settings(defense)) for defense in DEFENSES}
    problems = []
    for command, options in calls.items():
        known = command.startswith("fit ") and command != "fit standard"  # all fits share their other options
        for name in sorted(options.names - options_of(Training).names if known else options.names):
            if name in options.flags:
                rows = {f"--{name}=maybe": f"--{name} takes no value", f"--{name} --{name}": f"--{name} is given twice"}
            else:
                rows = {
                    f"--{name}": f"--{name} has no value",
                    f"--{name} ''": f"--{name} is empty",
                    f"--{name}=": f"--{name} is empty",
                    f"--{name} 1 --{name}=1": f"--{name} is given twice",
                    f"--{name}x 1": f"unknown option --{name}x",
                }
            problems += [refused(place, f"{command} {arguments}", expected) for arguments, expected in rows.items()]
    assert not any(problems), "\n".join(filter(None, problems))


def test_an_epsilon_may_be_a_fraction() -> None:
    assert [_number_or_fraction([word]) for word in ("8/255", "0.5", "1e-2", "1/4")] == [8 / 255, 0.5, 0.01, 0.25]
    for word in ("8/0", "x", "1/2/3", "/3", "8/"):
        with pytest.raises(ValueError):
            _number_or_fraction([word])
