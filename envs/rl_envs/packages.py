"""Importing an optional package, or saying how to get it."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

from rl_envs.tasks import DataError


def needed(module: str, who: str, install: str) -> ModuleType:
    """A foreign module.

    Args:
        module: Its import name.
        who: What needs it.
        install: What to type.

    Raises:
        DataError: It is not installed, or does not load; the one line says what to type.
    """
    try:
        with warnings.catch_warnings():  # what it warns about while loading is not the user's
            warnings.simplefilter("ignore")
            return importlib.import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        missing = (error.name or module).partition(".")[0]
        what = top if missing == top else f"{top} ({error})"
        raise DataError(f"{who} needs the package {what}: {install}") from error
