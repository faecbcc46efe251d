"""Recipes: each value has a range, nothing is kept before it is checked, and a mistake blocks nothing."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import grfd
from grfd import cli, runs
from grfd.api import fitting as api
from grfd.api.job import Own
from grfd.config import Config
from grfd.defenses import DEFENSES, recipes
from grfd.errors import UserError

WRONG: list[tuple[str, str, Any, str]] = [
    ("pgd-at", "epochs", 0, "at least 1"),
    ("pgd-at", "epochs", -1, "at least 1"),
    ("pgd-at", "epochs", "3", "a whole number"),
    ("pgd-at", "steps", 0, "at least 1"),
    ("pgd-at", "steps", 1.5, "a whole number"),
    ("pgd-at", "eps", math.nan, "a finite number"),
    ("pgd-at", "eps", 0.0, "at least 1e-12"),
    ("pgd-at", "eps", 8, "at most 1"),
    ("pgd-at", "step_size", -0.01, "at least 1e-12"),
    ("pgd-at", "learning_rate", -1.0, "at least 1e-12"),
    ("pgd-at", "learning_rate", math.inf, "a finite number"),
    ("pgd-at", "averaging", 2, "below 1"),
    ("pgd-at", "averaging", 1.0, "below 1"),
    ("pgd-at", "averaging", -0.1, "at least 0"),
    ("trades", "beta", -1.0, "at least 0"),
    ("trades", "beta", math.nan, "a finite number"),
    ("trades", "steps", True, "a whole number"),
    ("bit-depth", "bits", 0, "at least 1"),
    ("bit-depth", "bits", 17, "at most 16"),
    ("bit-depth-retrained", "bits", -3, "at least 1"),
    ("feature-squeezing", "bits", 0, "at least 1"),
    ("feature-squeezing", "smooth", 1, "True or False"),
    ("squeeze-detector", "false_positives", 1.0, "below 1"),
    ("squeeze-detector", "examples", 0, "at least 1"),
    ("randomized-smoothing", "votes", 0, "at least 1"),
    ("randomized-smoothing", "sigma", -1, "at least 1e-06"),
    ("gradient-regularisation", "share", 1.5, "at most 1"),
    ("gradient-regularisation", "jacobian", math.nan, "a finite number"),
    ("ape-gan", "likeness", -0.1, "at least 0"),
    ("cd-vae", "latent", 0, "at least 1"),
    ("cd-vae", "reconstruction", (1.0,), "three numbers"),
    ("diffpure", "levels", (), "a list of whole numbers"),
    ("diffpure", "widths", (16, 20), "a multiple of 16"),
    ("diffpure", "average", 1.0, "below 1"),
    ("grfd-robust", "start", "anywhere", "'stage_one' or 'fresh'"),
    ("grfd-robust", "averaging", 2, "below 1"),
    ("cure", "last_step", 0.0, "at least 1e-06"),
]


@pytest.mark.parametrize(("defense", "name", "value", "expected"), WRONG)
def test_a_wrong_value_is_one_line_and_leaves_nothing(
    defense: str, name: str, value: Any, expected: str, digits: grfd.Data, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^recipe of {defense}: {name}\S* must be {expected}, got ") as caught:
        grfd.fit(defense, tmp_path / "run", data=digits, recipe={name: value})
    assert str(caught.value).isprintable()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError, match=f"must be {expected}"):
        DEFENSES[defense].Recipe(**{name: value})


@pytest.mark.parametrize("recipe", [3, [1], "eps=1", {3: 4}])
def test_what_is_no_recipe_is_one_line(recipe: Any, digits: grfd.Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^recipe of pgd-at: "):
        grfd.fit("pgd-at", tmp_path / "run", data=digits, recipe=recipe)


def test_the_recipe_of_another_defense_is_refused(digits: grfd.Data, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^expected a Recipe of pgd-at, got Recipe\("):
        api.fit_run("pgd-at", tmp_path / "run", Config(data="tensors"), DEFENSES["trades"].Recipe(), Own(digits))
    assert list(tmp_path.iterdir()) == []


def test_every_published_recipe_is_valid() -> None:
    for name, module in DEFENSES.items():
        for channels, published in ((1, module.GREY), (3, module.COLOUR)):
            recipe = recipes.with_published_values(module.Recipe(), channels, module.GREY, module.COLOUR)
            assert None not in vars(recipe).values(), name
            assert {key: getattr(recipe, key) for key in published} == dict(published)


def test_numpy_s_numbers_are_kept_as_plain_ones(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", Config())
    recipe = DEFENSES["cd-vae"].Recipe(steps=np.int64(2), eps=np.float64(0.1), reconstruction=[3, 2, 1])
    recipes.remember(run, "cd-vae", recipe)
    stored = json.loads(run.file("recipes/cd-vae.json").read_text())
    assert (stored["steps"], stored["eps"], stored["reconstruction"]) == (2, 0.1, [3.0, 2.0, 1.0])


def test_a_wrong_recipe_does_not_block_the_right_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the command line, in a new folder and in one that is there."""
    out = tmp_path / "run"
    settings = ["--train-examples", "64", "--epochs", "1", "--classifier-epochs", "1", "--device", "cpu"]

    def fit(*options: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["grfd", "fit", "pgd-at", "--out", str(out), *settings, *options])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0), capsys.readouterr().err
        return 0, ""

    for name, wrong in (("eps", "nan"), ("averaging", "2"), ("epochs", "0")):
        code, line = fit(f"--recipe.{name}", wrong)
        assert code == 2 and line.startswith("grfd: ") and name in line and line.count("\n") == 1
        assert not out.exists()
    assert fit("--recipe.eps", "0.1", "--recipe.epochs", "1") == (0, "")
    files = sorted(out.rglob("*"))
    assert fit("--recipe.eps", "-1")[0] == 2
    code, line = fit("--recipe.eps", "0.2", "--recipe.epochs", "1")
    assert code == 2 and "pgd-at with another recipe (eps 0.1 → 0.2)" in line
    assert sorted(out.rglob("*")) == files


def images_of(height: int, width: int, channels: int = 1, count: int = 20) -> grfd.Data:
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, channels, height, width, generator=generator)
    labels = torch.arange(count) % 2
    return grfd.from_tensors(images, labels, images, labels)


class Linear(torch.nn.Module):
    """A linear classifier of the first pixels, grey or coloured, of images of any size from six by six."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(36, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.layer(images.mean(1).flatten(1)[:, :36])


@pytest.mark.parametrize(
    ("defense", "data", "recipe", "line"),
    [
        ("ape-gan", images_of(10, 10), {}, r"ape-gan takes images whose sides are multiples of 4 .*got 10×10"),
        ("cd-vae", images_of(10, 10), {}, r"cd-vae takes images whose sides are multiples of 4 and at least 12"),
        ("cd-vae", images_of(10, 10, 3), {}, r"cd-vae takes images whose sides are multiples of 4 and at least 4"),
        ("grfd", images_of(10, 10), {}, r"LVCVAE: .*10×10"),
        ("grfd-robust", images_of(10, 10), {}, r"LVCVAE: .*10×10"),
        ("diffpure", images_of(10, 10), {}, r"diffpure takes images whose sides are multiples of 4"),
        ("diffpure", images_of(12, 12, count=4), {}, r"expected at least 5, got 4"),
        ("feature-squeezing", images_of(6, 6, 3), {}, r"feature-squeezing takes images whose sides are at least 7"),
        (
            "squeeze-detector",
            images_of(6, 6),
            {"smooth": True},
            r"squeeze-detector takes .* at least 7 pixels, got 6×6",
        ),
    ],
)
def test_images_that_a_defense_cannot_take_are_refused_before_training(
    defense: str, data: grfd.Data, recipe: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=line):
        grfd.fit(defense, tmp_path / "run", data=data, model=Linear, recipe=recipe, device="cpu")
    assert not (tmp_path / "run").exists()


def test_a_stored_recipe_is_whole(tmp_path: Path) -> None:
    run = runs.create(tmp_path / "run", Config())
    file = run.file("recipes/pgd-at.json")
    recipe = DEFENSES["pgd-at"].Recipe(eps=0.1, step_size=0.05, steps=3, epochs=8)
    recipes.remember(run, "pgd-at", recipe)
    stored = json.loads(file.read_text())
    for content, line in [
        ({name: value for name, value in stored.items() if name != "eps"}, "eps is missing"),
        (stored | {"eps": None}, "eps must be given, got null"),
        (stored | {"steps": 0}, "steps must be at least 1, got 0"),
        (stored | {"eps": math.nan}, "eps must be a finite number, got nan"),
        ([1], r"expected fields with their values, got \[1\]"),
    ]:
        file.write_text(json.dumps(content))
        for use in (
            lambda: recipes.recall(run, "pgd-at", DEFENSES["pgd-at"].Recipe),
            lambda: recipes.remember(run, "pgd-at", recipe),
        ):
            with pytest.raises(UserError, match=f"pgd-at.json is not a recipe of pgd-at: {line}"):
                use()
