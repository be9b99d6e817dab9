"""The verifier ``remote``: scores from a server that ``agent-rl serve-verifier`` started."""

from __future__ import annotations

import asyncio
import math
import os
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from rl_verifiers.score import Row, Score, VerifierError

if TYPE_CHECKING:
    from rl_verifiers.remote_link import Link

TOKEN_VARIABLE = "AGENT_RL_VERIFIER_TOKEN"

_links: dict[tuple[int, RemoteVerifier], Link] = {}
_links_lock = threading.Lock()


@dataclass(frozen=True)
class RemoteVerifier:
    """See :func:`remote`."""

    url: str
    token_variable: str
    timeout_s: float
    retries: int
    bounded = True
    waits = True

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks until the server answers."""
        return self._submit(completion, row).result()

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; those that are pending at the same time go together."""
        return await asyncio.wrap_future(self._submit(completion, row))

    def prepare(self) -> None:
        """Ask the server, so that what cannot work is known at once.

        Raises:
            VerifierError: It does not answer, is no such server, or refuses the token.
        """
        self._link().check()

    def _submit(self, completion: str, row: Row) -> Future[Score]:
        return self._link().submit(completion, row)

    def _link(self) -> Link:
        """The connection of this process: an HTTP client with a thread of its own."""
        try:
            from rl_verifiers.remote_link import Link  # noqa: PLC0415
        except ModuleNotFoundError as missing:
            raise VerifierError(
                f"verifier remote needs {missing.name}: pip install 'agent-rl[remote]'"
            ) from None
        key = (os.getpid(), self)
        with _links_lock:
            if key not in _links:
                token = _token(os.environ.get(self.token_variable), self.token_variable)
                _links[key] = Link(
                    self.url, token, self.token_variable, self.timeout_s, self.retries
                )
            return _links[key]


def remote(
    *,
    url: str,
    token_variable: str = TOKEN_VARIABLE,
    timeout_s: float = 120.0,
    retries: int = 4,
) -> RemoteVerifier:
    """Scores from a server of ``serve-verifier``, many samples in one request.

    A broken connection and a server that fails are tried again, and one that is full or about to
    end is asked later. A sample that got no score is an error of ours, and never a 0.

    Args:
        url: Where it is, ``http://HOST:PORT``.
        token_variable: The environment variable that holds what the server wants to see.
        timeout_s: Seconds after which a sample has no score, whatever is still tried.
        retries: How often a request is sent again after its connection broke or the server failed.

    Raises:
        VerifierError: An option that cannot be. When it scores: the server refuses the token or the
            request, or is none of ours.
    """
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        valid = valid and not (parts.query or parts.fragment or parts.username)
    except (ValueError, AttributeError, TypeError):
        valid = False
    if not valid:
        raise VerifierError(f"remote: url {url!r} must look like http://127.0.0.1:8766")
    if not (isinstance(timeout_s, int | float) and 0 < timeout_s < math.inf):
        raise VerifierError(f"remote: timeout_s is {timeout_s!r}; it must be a number above 0")
    if type(retries) is not int or retries < 0:
        raise VerifierError(f"remote: retries is {retries!r}; it must be a whole number from 0 on")
    if not (isinstance(token_variable, str) and token_variable):
        raise VerifierError("remote: token_variable must be the name of an environment variable")
    return RemoteVerifier(url.rstrip("/"), token_variable, float(timeout_s), retries)


def _token(text: str | None, variable: str) -> str | None:
    token = (text or "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise VerifierError(f"remote: {variable} must hold printable ASCII without blanks")
    return token or None
