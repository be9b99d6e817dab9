"""Writing files so that no crash, kill or full disk can damage what was there before."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from agent_rl.errors import UserError


class RunError(UserError):
    """A run folder cannot be made, read or written; the message says which, why, and what to do."""


def write_atomically(path: Path, text: str) -> None:
    r"""Write a whole file, or leave the old one as it was.

    The text goes to a temporary file in the same folder, is synced, and renamed over ``path``. Lone
    surrogates, which UTF-8 cannot hold, are written as ``\udXXX``.

    Raises:
        RunError: When the disk is full or refuses; the temporary file is gone then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with _refusals(path):
        try:
            with temporary.open("wb") as file:
                file.write(encode(text))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Append one line in one write; on a full disk the file keeps its former end.

    The line is in the operating system's hands on return: a killed process loses nothing, a power
    cut may.

    Raises:
        RunError: When the disk is full or refuses.
    """
    data = encode(line + "\n")
    with _refusals(path), path.open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            written = file.write(data)
            while written < len(data):  # a nearly full disk takes a part without an error
                written += file.write(data[written:])
        except OSError:
            with suppress(OSError):
                file.truncate(size)
            raise


def whole_lines(path: Path) -> list[str]:
    """The lines of a file that end with a newline; a half-written last one is left out.

    Raises:
        RunError: When the file cannot be read.
    """
    try:
        text = path.read_bytes().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}") from error
    return text.split("\n")[:-1]


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file; none where there is no file.

    Raises:
        RunError: When a line other than a half-written last one is damaged.
    """
    return [parse_object(line, f"{path}, line {n}") for n, line in enumerate(whole_lines(path), 1)]


def parse_object(text: str, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        RunError: When the text is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RunError(f"{where} is damaged: {error}; put it back or remove it") from error
    if not isinstance(value, dict):
        raise RunError(f"{where} holds no JSON object; put it back or remove it")
    return value


def to_json(value: Any, indent: int | None = None) -> str:
    """Valid JSON: NaN and infinities, which JSON does not have, become null."""
    return json.dumps(plain(value), ensure_ascii=False, allow_nan=False, indent=indent)


def plain(value: Any) -> Any:
    """Mappings, lists, strings, finite numbers, booleans and None; anything else as text.

    NumPy and torch scalars become Python numbers.
    """
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    return plain(value.item()) if hasattr(value, "item") else str(value)


def encode(text: str) -> bytes:
    r"""UTF-8; a lone surrogate becomes ``\udXXX``, which means it again within JSON."""
    return text.encode("utf-8", "backslashreplace")


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {path}: {error.strerror or error}; what was there is kept: "
            "free some space or mend the folder's permissions, then go on with --resume"
        ) from error


def _sync_folder(folder: Path) -> None:
    """Make the rename durable where the system can sync a folder (Windows cannot)."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
