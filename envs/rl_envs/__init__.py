"""Text environments behind Gymnasium's API: messages in, messages and rewards out."""

from rl_envs.adapters import ADAPTERS, tasks_from_rows
from rl_envs.core import GroupVerifier, Reply, TextEnv, VerifierSpec
from rl_envs.describe import describe
from rl_envs.files import load_rows
from rl_envs.gymnasium_text import GymnasiumText
from rl_envs.mixture import Entry, Mixture, levels
from rl_envs.registry import Listed, ids, listing, make, register
from rl_envs.spaces import ChatSpace, TextSpace
from rl_envs.tasks import (
    DataError,
    EnumeratedTasks,
    GeneratedTasks,
    ListTasks,
    as_tasks,
    bucket,
    content_id,
    hash_split,
)
from rl_envs.types import Action, Message, Observation, Task, TaskSource

register("text/Arithmetic-v0", "rl_envs.text.arithmetic:Arithmetic")
register("text/CartPole-v0", "rl_envs.text.cartpole:CartPole")
register("text/Code-v0", "rl_envs.text.code_generated:Code")
register("text/CodeContests-v0", "rl_envs.text.code_contests:CodeContests")
register("text/Countdown-v0", "rl_envs.text.countdown:Countdown")
register("text/GSM8K-v0", "rl_envs.text.math_data:GSM8K")
register("text/Gymnasium-v0", "rl_envs.gymnasium_text:GymnasiumText")
register("text/HumanEval-v0", "rl_envs.text.code_data:HumanEval")
register("text/MATH-v0", "rl_envs.text.math_data:MATH")
register("text/MBPP-v0", "rl_envs.text.code_data:MBPP")
register("text/ReverseText-v0", "rl_envs.text.reverse:ReverseText")
register("text/Thermostat-v0", "rl_envs.text.thermostat:Thermostat")

__all__ = [
    "ADAPTERS",
    "Action",
    "ChatSpace",
    "DataError",
    "Entry",
    "EnumeratedTasks",
    "GeneratedTasks",
    "GroupVerifier",
    "GymnasiumText",
    "ListTasks",
    "Listed",
    "Message",
    "Mixture",
    "Observation",
    "Reply",
    "Task",
    "TaskSource",
    "TextEnv",
    "TextSpace",
    "VerifierSpec",
    "as_tasks",
    "bucket",
    "content_id",
    "describe",
    "hash_split",
    "ids",
    "levels",
    "listing",
    "load_rows",
    "make",
    "register",
    "tasks_from_rows",
]
