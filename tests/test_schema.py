"""One schema for all settings: whatever is given, at whatever door, is a valid record or one line."""

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import grfd
from grfd import runs, schema
from grfd.config import PRESETS, Config
from grfd.defenses import DEFENSES, recipes
from grfd.errors import UserError

RESULTS = Path(__file__).parents[1] / "results"
NAMES = [field.name for field in fields(Config)]

NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(10**400), 2**63, 1e308, 5e-324, -0.0])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NEARLY = JSON | st.integers(0, 5) | st.floats(0, 2) | st.lists(st.floats(0, 20), min_size=3, max_size=3)
"""Many of these are valid, so that both answers are seen."""


def one_line(error: UserError) -> str:
    assert str(error).isprintable() and len(str(error)) < 2_000
    return str(error)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"epochs": -1}, "epochs must be at least 1, got -1"),
        ({"epochs": "3"}, "epochs must be a whole number, got '3'"),
        ({"epochs": 3.0}, "epochs must be a whole number, got 3.0"),
        ({"epochs": True}, "epochs must be a whole number, got True"),
        ({"epochs": None}, "epochs must be a whole number, got None"),
        ({"epochs": 10**5000}, "epochs must be at most 1,000,000, got an object of type int"),
        ({"epochs": torch.tensor(3)}, r"epochs must be a whole number, got tensor\(3\)"),
        ({"latent": 10**9}, "latent must be at most 100,000, got 1000000000"),
        ({"batch": 2**63}, "batch must be at most 1,000,000"),
        ({"batch": 8, "passes": 9}, "passes must be at most batch, 8, got 9"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"seed": 2**63}, "seed must be at most 9,223,372,036,854,775,807"),
        ({"train_examples": 0}, "train_examples must be at least 1, got 0"),
        ({"classifier_learning_rate": math.inf}, "classifier_learning_rate must be a finite number, got inf"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number, got nan"),
        ({"learning_rate": -1.0}, "learning_rate must be at least 1e-12, got -1.0"),
        ({"sigma": 0}, "sigma must be at least 1e-06, got 0"),
        ({"beta": 10**400}, "beta must be a finite number, got 1000"),
        ({"gamma": "much"}, "gamma must be a number, got 'much'"),
        ({"alpha": (1,)}, r"alpha must be three numbers, got \(1,\)"),
        ({"alpha": (1, 2, 3, 4)}, r"alpha must be three numbers, got \(1, 2, 3, 4\)"),
        ({"alpha": 5}, "alpha must be three numbers, got 5"),
        ({"alpha": (1, math.nan, 1)}, r"alpha\[1\] must be a finite number"),
        ({"kl": "nope"}, "kl must be 'per_dimension' or 'sum', got 'nope'"),
        ({"game": "chess"}, "game must be 'cooperative' or 'sign_flipped', got 'chess'"),
        ({"augmentation": None}, "augmentation must be 'none' or 'crop_flip', got None"),
        ({"precision": "float16"}, "precision must be 'float32' or 'bfloat16', got 'float16'"),
        ({"device": "cuda"}, "device must be 'auto' or 'cpu', got 'cuda'"),
        ({"channels_last": 1}, "channels_last must be True or False, got 1"),
        ({"data_dir": ""}, "data_dir must be a path, got ''"),
        ({"data_dir": 3}, "data_dir must be a path, got 3"),
        ({"data_dir": "a\0b"}, "data_dir must be a path"),
        ({"colour": 1}, "unknown field 'colour': expected one of alpha, augmentation"),
        ({"config": 1}, "unknown field 'config'"),
        ({"name": 1}, "unknown field 'name'"),
    ],
)
def test_a_wrong_setting_is_one_line_before_anything_is_made(
    changes: dict[str, Any], line: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=f"^{line}") as caught:
        grfd.train(tmp_path / "run", **changes)
    one_line(caught.value)
    with pytest.raises(UserError, match=f"^{line}"):
        grfd.fit("pgd-at", tmp_path / "run", **changes)
    assert not (tmp_path / "run").exists()


def test_no_record_with_an_impossible_value_can_be_made() -> None:
    with pytest.raises(UserError, match="epochs must be at least 1"):
        Config(epochs=0)
    with pytest.raises(UserError, match="epochs must be at least 1"):
        replace(Config(), epochs=0)
    with pytest.raises(UserError, match="steps must be at least 1"):
        DEFENSES["pgd-at"].Recipe(steps=0)
    with pytest.raises(UserError, match="expected a record of settings, got 3"):
        schema.checked_settings(3)  # type: ignore[type-var]


@pytest.mark.parametrize("name", [[], None, 3, "slow", "a\nb"])
def test_a_preset_that_is_not_there(name: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^unknown preset .*: expected one of mnist-lenet5") as caught:
        grfd.train(tmp_path / "run", name)
    one_line(caught.value)


def test_numpy_scalars_lists_and_text_are_what_they_stand_for() -> None:
    config = Config(
        epochs=np.int32(3),  # type: ignore[arg-type]
        sigma=np.float32(0.5),  # type: ignore[arg-type]
        beta=1,
        alpha=[np.float64(3), 2, 1],  # type: ignore[arg-type]
        data_dir="here",  # type: ignore[arg-type]
        channels_last=np.bool_(True),  # type: ignore[arg-type]
    )
    assert config == Config(
        epochs=3, sigma=0.5, beta=1.0, alpha=(3.0, 2.0, 1.0), data_dir=Path("here"), channels_last=True
    )
    types = {name: type(getattr(config, name)) for name in ("epochs", "sigma", "beta", "channels_last")}
    assert types == {"epochs": int, "sigma": float, "beta": float, "channels_last": bool}
    assert all(type(weight) is float for weight in config.alpha)
    assert Config(alpha=np.array([3.0, 2.0, 1.0])).alpha == (3.0, 2.0, 1.0)  # type: ignore[arg-type]


def test_the_presets_are_what_they_were_written_as() -> None:
    for config in PRESETS.values():
        assert schema.checked_settings(config) is config
        assert all(type(weight) is float for weight in config.alpha)


VALID = st.builds(
    Config,
    **{
        name: st.from_type(hint)
        for name, hint in schema._hints(Config).items()
        if name not in ("data", "model", "data_dir", "weights", "batch", "passes")
    },
    data=st.sampled_from(["mnist", "folder"]),
    model=st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=20),
    data_dir=st.none() | st.sampled_from([Path("ä b/c"), Path("/data"), Path()]),
    weights=st.none() | st.sampled_from([Path("ä b/w.pt"), Path("/w.safetensors")]),
    batch=st.integers(50, 1_000_000),
    passes=st.integers(1, 50),
)


@given(VALID)
@settings(max_examples=15)  # each asks git for the revision
def test_a_valid_configuration_comes_back_from_its_folder(config: Config) -> None:
    with TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        runs.create(run, config)
        stored = (run / "config.json").read_bytes()
        assert runs.load(run).config == config
        assert runs.create(run, config).config == config
        assert (run / "config.json").read_bytes() == stored


def stored_config(**changes: Any) -> dict[str, Any]:
    return json.loads(json.dumps(asdict(Config()))) | changes


@given(st.sampled_from(NAMES), NEARLY)
def test_any_value_in_config_json_is_valid_or_one_line(name: str, value: Any) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder) / "config.json"
        try:
            file.write_text(json.dumps({"config": stored_config(**{name: value})}))
        except ValueError:  # an integer of more digits than Python writes
            return
        try:
            config = runs.load(Path(folder)).config
        except UserError as error:
            message = one_line(error)
            assert "config.json" in message and name in message
        else:
            assert schema.checked_settings(replace(config)) == config
            assert isinstance(getattr(config, name), type(getattr(Config(), name)) | Path | int | None)


@given(JSON)
def test_any_content_of_config_json_is_one_line(value: Any) -> None:
    with pytest.raises(UserError) as caught:
        schema.from_plain(Config, value, "config.json")
    assert one_line(caught.value).startswith("config.json: ")


@pytest.mark.parametrize("name", NAMES)
def test_a_missing_setting_is_named_unless_the_file_is_older_than_it(name: str) -> None:
    stored = stored_config(**{name: None})
    del stored[name]
    if name in Config.LATER:
        assert schema.from_plain(Config, stored, "config.json") == Config()
    else:
        with pytest.raises(UserError, match=f"^config.json: {name} is missing$"):
            schema.from_plain(Config, stored, "config.json")


def test_an_unknown_setting_in_a_file_is_named() -> None:
    with pytest.raises(UserError, match=r"^config.json: unknown field 'a\\nb': expected one of alpha"):
        schema.from_plain(Config, stored_config(**{"a\nb": 1}), "config.json")


def test_every_committed_configuration_still_loads() -> None:
    folders = [file.parent for file in RESULTS.rglob("config.json")]
    assert len(folders) > 30
    for folder in folders:
        stored = json.loads((folder / "config.json").read_text())["config"]
        assert json.loads(json.dumps(runs._plain(runs.load(folder).config))).items() >= stored.items()


def test_every_committed_recipe_still_loads() -> None:
    files = sorted(RESULTS.rglob("recipes/*.json"))
    assert len(files) > 20
    for file in files:
        run, name = runs.load(file.parents[1]), file.stem
        recipe = recipes.recall(run, name, DEFENSES[name].Recipe)
        assert json.loads(json.dumps(asdict(recipe))).items() >= json.loads(file.read_text()).items()


DEFENSE_FIELDS = [(name, field.name) for name, module in DEFENSES.items() for field in fields(module.Recipe)]


@given(st.sampled_from(DEFENSE_FIELDS), NEARLY)
def test_any_value_in_a_stored_recipe_is_valid_or_one_line(place: tuple[str, str], value: Any) -> None:
    defense, name = place
    module = DEFENSES[defense]
    whole = asdict(recipes.with_published_values(module.Recipe(), 1, module.GREY, module.COLOUR))
    with TemporaryDirectory() as folder:
        run = runs.Run(Path(folder), Config())
        file = run.file(f"recipes/{defense}.json")
        file.parent.mkdir()
        try:
            file.write_text(json.dumps(whole | {name: value}))
        except ValueError:
            return
        try:
            recipe = recipes.recall(run, defense, module.Recipe)
        except UserError as error:
            message = one_line(error)
            assert f"{defense}.json is not a recipe of {defense}" in message and name in message
        else:
            assert schema.checked_settings(replace(recipe)) == recipe
            assert getattr(recipe, name) is not None


@given(st.sampled_from(list(DEFENSES)), st.binary() | JSON.map(repr).map(str.encode))
def test_any_bytes_in_a_stored_recipe_are_one_line(defense: str, content: bytes) -> None:
    if content.strip() == b"{}":
        return
    with TemporaryDirectory() as folder:
        run = runs.Run(Path(folder), Config())
        file = run.file(f"recipes/{defense}.json")
        file.parent.mkdir()
        file.write_bytes(content)
        with pytest.raises(UserError, match="is not a recipe of") as caught:
            recipes.recall(run, defense, DEFENSES[defense].Recipe)
        one_line(caught.value)


def test_a_value_of_the_caller_s_own_class_is_described() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError

    assert schema.quoted(Rude()) == "an object of type Rude"
    assert schema.quoted("x" * 200) == "'" + "x" * 58 + "…"
    assert schema.quoted(np.zeros((3, 3))).isprintable()
