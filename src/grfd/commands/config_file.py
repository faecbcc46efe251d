"""`--config`: options from a file. Options on the command line win."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from grfd import schema
from grfd.config import Config
from grfd.errors import UserError
from grfd.files import read_regular

LARGEST_CONFIG = 2**20
"""Size limit in bytes."""
TYPED_ALONE = frozenset({"config", "trust"})
"""Options that no file can set. Consent to import code is given on the command line."""
IN_EVALUATION = frozenset({"protocols", "attacks", "examples", "eps", "split"})
"""Options that evaluation.json records; none of them imports code."""
ABOUT_A_RUN = frozenset({"images", "classes", "weights", "checked", "versions", "git_revision", "machine"})
"""Fields of config.json and evaluation.json that are not settings, but describe the run or the evaluation."""


def is_of_a_run(file: Path) -> bool:
    """Whether the file is from a run folder. Such a folder may come from somebody else."""
    return file.suffix == ".json"


def read_settings_file(file: Path) -> dict[str, Any]:
    """The names and values in a TOML file, or in the config.json or evaluation.json of a run folder.

    Raises `UserError` if the file cannot be read.
    """
    content = read_regular(file, LARGEST_CONFIG)
    try:
        values = json.loads(content) if is_of_a_run(file) else tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # errors of TOML, JSON and UTF-8 are ValueErrors
        kind = "JSON" if is_of_a_run(file) else "TOML"
        raise UserError(f"{file} cannot be read as {kind}: {error}") from error
    if not isinstance(values, dict):
        raise UserError(f"{file}: expected names with their values, got {schema.quoted(values)}")
    if not is_of_a_run(file):
        return values
    about = ABOUT_A_RUN if "config" not in values else frozenset()
    settings = values.get("config", values)
    if not isinstance(settings, dict):
        raise UserError(f"{file}: config: expected names with their values, got {schema.quoted(settings)}")
    return {name: value for name, value in settings.items() if name not in about}


def config_with(base: Config, values: Mapping[str, Any], file: Path) -> Config:
    """A configuration with fields from a file. Raises `UserError` for unknown fields and wrong values."""
    return schema.built(Config, {**vars(base), **values}, str(file))


def as_tokens(values: Mapping[str, Any], options: set[str], file: Path) -> dict[str, list[str]]:
    """The options in a file, as they would be typed: option → words, with dashes.

    Raises `UserError` for an option that a file cannot set, and for a value that no option can have.
    """
    allowed = options & IN_EVALUATION if is_of_a_run(file) else options - TYPED_ALONE
    tokens = {}
    for name, value in values.items():
        option = name.replace("_", "-")
        if option not in allowed:
            raise UserError(
                f"{file}: unknown option {schema.quoted(name)}: expected one of {', '.join(sorted(allowed))}"
            )
        tokens[option] = _words(option, value, f"{file}: {name}")
    return tokens


def _words(option: str, value: object, where: str) -> list[str]:
    if isinstance(value, bool):
        return [f"--{option}" if value else f"--no-{option}"]
    listed = value if isinstance(value, list) else [value]
    for each in listed:
        if isinstance(each, bool) or not isinstance(each, str | int | float):
            raise UserError(f"{where} is {schema.quoted(value)}: expected text, a number, or a list of them")
        if isinstance(each, str) and each.startswith("-"):
            raise UserError(f"{where} is {schema.quoted(value)}: no value begins with a dash")
    return [f"--{option}", *map(str, listed)]
