"""The sweep's database: what goes wrong with it is one line, and its password is in none."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import optuna
import sqlalchemy

from grfd.errors import UserError, masked

SHORT = 3
"""Letters of a password that is masked only where it stands in a URL: elsewhere it may be a part of a word."""


def connected(url: str, beat: int) -> optuna.storages.RDBStorage:
    """The storage at an SQLAlchemy URL, with a sign of life every `beat` seconds.

    Raises `UserError` where the database cannot be reached.
    """
    with errors_of(url, opening=True), experimental():
        return optuna.storages.RDBStorage(
            url,
            heartbeat_interval=beat,
            grace_period=4 * beat,
            heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
        )


@contextmanager
def experimental() -> Iterator[None]:
    """Signs of life are an experiment of optuna's, which it says again and again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


@contextmanager
def errors_of(url: str, *, opening: bool = False) -> Iterator[None]:
    """Makes one line without the password of what goes wrong with the database: `UserError`.

    The error that a driver raised may quote the whole URL, so it does not stay behind the new one. While a database is
    opened, a driver may raise anything.
    """
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        line = f"its driver is not installed ({error}): pip install grfd[postgresql]"
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError) as error:
        line = f"cannot be used: {_reason(error)}"
    except Exception as error:
        if not opening:
            raise
        line = f"cannot be opened: {_reason(error)}"
    else:
        return
    raise UserError(without_password(f"{url}: {line}", url))


def _reason(error: BaseException) -> str:
    """The first line of what the driver said; optuna and SQLAlchemy wrap it."""
    inner = error.__cause__ or getattr(error, "orig", None)
    if isinstance(inner, BaseException):
        return _reason(inner)
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)


def without_password(text: str, url: str) -> str:
    """The text with asterisks for the URL's password, wherever it stands and however it is written."""
    address, _, _ = url.rpartition("@")
    secret = address.partition("://")[2].partition(":")[2]
    for written in {secret, unquote(secret)}:
        if len(written) > SHORT:
            text = text.replace(written, "***")
    return masked(text)
