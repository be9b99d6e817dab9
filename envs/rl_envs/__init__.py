"""Text environments behind Gymnasium's API: messages in, messages and rewards out."""

from rl_envs.adapters import ADAPTERS, tasks_from_rows
from rl_envs.core import GroupVerifier, Reply, TextEnv, VerifierSpec
from rl_envs.describe import describe
from rl_envs.files import load_rows
from rl_envs.gymnasium_text import GymnasiumText
from rl_envs.mixture import Entry, Mixture, levels
from rl_envs.random_policy import random_policy
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
register("text/Browse-v0", "rl_envs.text.browse:Browse")
register("text/Calculator-v0", "rl_envs.text.calculator:Calculator")
register("text/CartPole-v0", "rl_envs.text.cartpole:CartPole")
register("text/Code-v0", "rl_envs.text.code_generated:Code")
register("text/CodeContests-v0", "rl_envs.text.code_contests:CodeContests")
register("text/Countdown-v0", "rl_envs.text.countdown:Countdown")
register("text/GSM8K-v0", "rl_envs.text.math_data:GSM8K")
register("text/Gymnasium-v0", "rl_envs.gymnasium_text:GymnasiumText")
register("text/HumanEval-v0", "rl_envs.text.code_data:HumanEval")
register("text/LearnedReward-v0", "rl_envs.text.learned_reward:LearnedReward")
register("text/Letters-v0", "rl_envs.text.letters:Letters")
register("text/MATH-v0", "rl_envs.text.math_data:MATH")
register("text/MBPP-v0", "rl_envs.text.code_data:MBPP")
register("text/OpenEnv-v0", "rl_envs.bridges.openenv:OpenEnv")
register("text/OpenEnvTools-v0", "rl_envs.bridges.openenv:OpenEnvTools")
register("text/Preference-v0", "rl_envs.text.preference:Preference")
register("text/Prime-v0", "rl_envs.bridges.prime:Prime")
register("text/ReasoningGym-v0", "rl_envs.bridges.reasoning_gym:ReasoningGym")
register("text/PythonTool-v0", "rl_envs.text.python_tool:PythonTool")
register("text/ReverseText-v0", "rl_envs.text.reverse:ReverseText")
register("text/SQL-v0", "rl_envs.text.sql:SQL")
register("text/TextArena-v0", "rl_envs.bridges.textarena:TextArena")
register("text/Terminal-v0", "rl_envs.text.terminal:Terminal")
register("text/Thermostat-v0", "rl_envs.text.thermostat:Thermostat")
register("text/TicTacToe-v0", "rl_envs.text.tictactoe:TicTacToe")
register("text/UserSim-v0", "rl_envs.text.user_sim:UserSim")
register("text/Wordle-v0", "rl_envs.text.wordle:Wordle")

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
    "random_policy",
    "register",
    "tasks_from_rows",
]
