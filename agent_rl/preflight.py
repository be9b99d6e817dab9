"""What can be known to fail before anything is trained, written or replaced."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module

from agent_rl import models
from agent_rl.config import EnvConfig, ModelConfig, StageConfig, stage_kind
from agent_rl.errors import UserError
from agent_rl.runs.trackers import check_trackers
from agent_rl.self_play import refuse_group_verifier
from rl_envs import DataError, TextEnv, make
from rl_envs.text.prompted import AWAITED
from rl_verifiers import VerifierError, score_sync

MOST_TASKS = 100_000  # looked at for a missing answer


class Unborn(tuple[str, ...]):
    """The results that earlier stages will make, and whatever else will be in their folders."""

    def __contains__(self, path: object) -> bool:
        folders = (result.rpartition("/")[0] + "/" for result in self)
        return super().__contains__(path) or any(str(path).startswith(f) for f in folders)


def check_stage(config: StageConfig, prefix: str = "", unborn: Collection[str] = ()) -> None:
    """Settings against the environments, data and models they name.

    A later stage of a recipe is checked before the first one trains. The model's weights are not
    read here.

    Args:
        config: The stage.
        prefix: Its dotted name, for messages.
        unborn: Paths of what earlier stages will make.

    Raises:
        UserError: One line that names the setting.
    """
    check_trackers(config.run.trackers)
    waiting = AWAITED.set(unborn)
    try:
        with located(prefix):
            import_module(f"agent_rl.stages.{stage_kind(config)}").check(config, unborn)
    finally:
        AWAITED.reset(waiting)


def check_model(config: ModelConfig, unborn: Collection[str]) -> None:
    """The model's files and chat template are there, unless an earlier stage will make it."""
    if str(config.path) not in unborn:
        models.check(config)


def check_env(config: EnvConfig) -> None:
    """The environment can be made, has tasks, and each has the answer that its verifier needs."""
    if not config.weight > 0:
        raise UserError(f"weight is {config.weight:g}; it must be above 0")
    env = make(config.id, **config.options)
    refuse_group_verifier(env, config.id)
    first = env.tasks[0]
    del first
    env.prepare()
    if env.tasks.size is not None and env.verifier is not None:
        _check_answers(env)


def _check_answers(env: TextEnv) -> None:
    for index in range(min(env.tasks.size or 0, MOST_TASKS)):
        task = env.tasks[index]
        if task.answer not in (None, ""):
            continue
        score = score_sync(env.judging, "?", task.row())
        if score.status == "bad_reference":
            raise UserError(f"task {task.id} has no answer ({score.reason}): add it")


@contextmanager
def located(place: str) -> Iterator[None]:
    """Names the setting in front of what is wrong with it."""
    try:
        yield
    except (UserError, DataError, VerifierError) as error:
        raise UserError(f"{place}: {error}" if place else str(error)) from error
