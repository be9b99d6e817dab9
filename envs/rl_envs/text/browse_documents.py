"""A folder of documents as a corpus."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rl_envs.tasks import DataError
from rl_envs.text.browse_corpus import Corpus, Page, cached_corpus

MAX_PAGE_CHARACTERS = 1_000_000
DOCUMENT_SUFFIXES = (".txt", ".md", ".jsonl")


def documents_corpus(folder: str | os.PathLike[str], cache: str = "") -> Corpus:
    """The corpus of a folder of documents, indexed anew when a file changes.

    Args:
        folder: ``.txt`` and ``.md`` files are a page each, whose title is the first heading or the
            file's name; a line of a ``.jsonl`` file is a page with ``text`` and, if it has them,
            ``title`` and ``id``. Other files are left alone. A file's page is called by its path
            within the folder.
        cache: As in :func:`cached_corpus`.

    Raises:
        DataError: No folder, no documents, a file that is not UTF-8 text, a line that is no page.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"documents: no folder {root}")
    files = sorted(
        path for path in root.rglob("*") if path.suffix in DOCUMENT_SUFFIXES and path.is_file()
    )
    if not files:
        raise DataError(f"documents: {root} holds no {', '.join(DOCUMENT_SUFFIXES)} file")
    stats = [(str(p.relative_to(root)), p.stat().st_size, p.stat().st_mtime_ns) for p in files]
    text = json.dumps([str(root.resolve()), stats])
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
    return cached_corpus(digest, lambda: _unique(_documents(root, files)), cache)


def _documents(root: Path, files: Sequence[Path]) -> Iterator[tuple[str, Page]]:
    """Pages, each with where it comes from."""
    for path in files:
        name = path.relative_to(root).as_posix()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: it cannot be read as UTF-8 text: {error}") from error
        if path.suffix == ".jsonl":
            for number, line in enumerate(text.split("\n"), start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield where, _page_of_line(line, where, f"{name}:{number}")
        elif text.strip():
            yield str(path), Page(name, _title(text, path), text)


def _title(text: str, path: Path) -> str:
    first = text.lstrip().split("\n", 1)[0]
    is_heading = path.suffix == ".md" and first.startswith("#")
    return first.lstrip("#").strip()[:200] if is_heading else path.stem


def _page_of_line(line: str, where: str, name: str) -> Page:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: no JSON: {error}") from error
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].strip():
        raise DataError(f'{where}: a page is an object with "text", and "title" and "id" if any')
    return Page(str(row.get("id") or name), str(row.get("title") or name)[:200], row["text"])


def _unique(pages: Iterable[tuple[str, Page]]) -> Iterator[Page]:
    seen: dict[str, str] = {}
    for where, page in pages:
        if page.id in seen:
            raise DataError(f"{where}: the id {page.id!r:.80} is that of a page in {seen[page.id]}")
        if len(page.text) > MAX_PAGE_CHARACTERS:
            raise DataError(f"{where}: over {MAX_PAGE_CHARACTERS:,} characters; split it")
        if any("\ud800" <= letter <= "\udfff" for part in page for letter in part):
            raise DataError(f"{where}: it holds a lone surrogate, which is no text")
        seen[page.id] = where
        yield page
