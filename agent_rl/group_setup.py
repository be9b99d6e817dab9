"""What the episodes of one task share: made once before the first, closed after the last."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import Awaitable, Callable
from typing import Any

from agent_rl.episode import EpisodeFailed
from rl_envs import TextEnv


class GroupSetup:
    """The shared object of one group.

    Args:
        make: Gives the object to the first member that asks. Where it raises ``EpisodeFailed`` it
            is called again; what it raises at last, or else, every member gets.
        members: How many episodes will ``leave``.
        name: Of the environment, for warnings.
        tries: How often ``make`` is called at most.
    """

    def __init__(
        self, make: Callable[[], Awaitable[Any]], members: int, name: str, tries: int = 1
    ) -> None:
        self._make = make
        self._left = members
        self._name = name
        self._tries = tries
        self._lock = asyncio.Lock()
        self._shared: Any = None
        self._error: Exception | None = None

    async def get(self) -> Any:
        """The object; waits where another member is making it."""
        async with self._lock:
            while self._tries:
                self._tries -= 1
                try:
                    self._shared, self._error = await self._make(), None
                    self._tries = 0
                except EpisodeFailed as error:
                    self._error = error
                except Exception as error:  # its author is to mend it
                    self._error, self._tries = error, 0
        if self._error is not None:
            raise self._error
        return self._shared

    async def leave(self) -> None:
        """A member is done; the last one closes the object."""
        self._left -= 1
        if self._left == 0:
            await self.close()

    async def close(self) -> None:
        """Close the object, where it has a ``close``; once. What was played stands if it fails."""
        shared, self._shared = self._shared, None
        close = getattr(shared, "close", None)
        if close is None:
            return
        try:
            closed = close()
            if inspect.isawaitable(closed):
                await closed
        except Exception as error:
            kind = type(error).__name__
            warnings.warn(
                f"{self._name}: close() of what its group shared raised {kind}: {error}",
                RuntimeWarning,
                stacklevel=2,
            )


def shares(env: TextEnv) -> bool:
    """Whether an environment sets anything up for its groups."""
    return type(env).set_up_group is not TextEnv.set_up_group
