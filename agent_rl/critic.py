"""Critics of PPO: what the state before each sampled token is worth.

Two of them: a linear head that reads the policy's own hidden state, and a network of its own that
starts as a reward model, as InstructGPT's did (Ouyang et al. 2022, arXiv:2203.02155, appendix C.4;
Stiennon et al. 2020, arXiv:2009.01325).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from agent_rl.errors import UserError
from agent_rl.packing import MicroBatch

if TYPE_CHECKING:
    from agent_rl.chat import Chat
    from agent_rl.config import RLConfig
    from agent_rl.reward_models import RewardModel

PLACE = "value_path"


class Critic(Protocol):
    """Gives the values of states.

    Attributes:
        reads_policy: Whether it reads the policy's hidden states, and so trains the policy too.
    """

    reads_policy: bool

    @property
    def module(self) -> nn.Module:
        """What trains."""
        ...

    def values(self, micro: MicroBatch, hidden_kd: Tensor | None = None) -> Tensor:
        """Values at the micro-batch's targets.

        Args:
            micro: K targets; the value of each is that of the state before it.
            hidden_kd: [K, D] the policy's hidden states there; needed where ``reads_policy``.

        Returns:
            [K] float32, in the micro-batch's own order, with their gradient.
        """
        ...


class LinearCritic:
    """A linear head on the policy's last hidden state, zero at the start.

    Args:
        hidden_size: Width of that state.
    """

    reads_policy = True

    def __init__(self, hidden_size: int) -> None:
        self.head = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    @property
    def module(self) -> nn.Module:
        """The head."""
        return self.head

    def values(self, micro: MicroBatch, hidden_kd: Tensor | None = None) -> Tensor:
        """See :class:`Critic`."""
        assert hidden_kd is not None
        values: Tensor = self.head(hidden_kd.float())[:, 0]
        return values


class RewardModelCritic:
    """A network of its own with the weights of a reward model, read at every sampled token.

    Its head is shifted and scaled as the reward is paid, so at the last token of a conversation the
    fresh critic gives the reward of that conversation.

    Args:
        model: The reward model; its network is taken over and changed.
        shift: Taken off its scores.
        scale: Then multiplied with them.
    """

    reads_policy = False

    def __init__(self, model: RewardModel, shift: float = 0.0, scale: float = 1.0) -> None:
        self._model = model
        network = model.network
        old: nn.Linear = network.score
        head = nn.Linear(old.in_features, 1)
        with torch.no_grad():
            head.weight.copy_(old.weight.float() * scale)
            bias = torch.zeros(1) if old.bias is None else old.bias.float().cpu()
            head.bias.copy_((bias - shift) * scale)
        network.score = head.to(old.weight.device)
        network.requires_grad_(True)

    @property
    def module(self) -> nn.Module:
        """The whole network."""
        network: nn.Module = self._model.network
        return network

    def values(self, micro: MicroBatch, hidden_kd: Tensor | None = None) -> Tensor:
        """See :class:`Critic`.

        Raises:
            UserError: A sequence is longer than the network's context.
        """
        longest, most = int(micro.position_ids.max()) + 1, self._context
        if longest > most:
            raise UserError(
                f"{PLACE}: {self._model.name} reads {most} tokens at most, and an episode has "
                f"{longest}; take shorter completions (sampling.max_tokens) or another model"
            )
        return self._model.outputs(micro)

    @property
    def _context(self) -> int:
        from agent_rl import models  # noqa: PLC0415 - this module is imported by the policy's

        return models.context_length(self._model.network)


def load_critic(config: RLConfig, chat: Chat) -> RewardModelCritic:
    """The critic that starts as the reward model ``value_path``; of an ensemble, as its first.

    Args:
        config: Its value_path, its environments (how they pay this reward model), its precision.
        chat: The policy's, whose ids the critic has to read.

    Raises:
        UserError: No reward model, one that pays probabilities, or one with another tokenizer or
            chat template than the policy's.
    """
    from agent_rl import models  # noqa: PLC0415 - this module is imported by the policy's
    from agent_rl.reward_models import load_reward_model  # noqa: PLC0415

    path = config.value_path
    assert path is not None
    try:
        model = load_reward_model(path, compute=models.DTYPES[config.model.compute])
    except UserError as error:
        raise UserError(f"{PLACE}: {error}") from error
    _refuse_probabilities(path, model.standing.kind)
    refuse_other_ids(path, model.chat, chat)
    paid = next((p for env in config.envs for p in _payments(env.options, path)), {})
    shift, scale = _member_scale(model)
    if paid.get("normalize", "none" if paid else "standard") != "none":
        shift, scale = shift + model.mean / scale, scale / model.std
    weight = paid.get("weight", 1.0)
    return RewardModelCritic(model, shift, scale * float(weight))


def _member_scale(model: RewardModel) -> tuple[float, float]:
    """Shift and scale that put an ensemble's first member on the scale of the whole.

    See ``reward_models.model.combined``; a model alone is on its own scale.
    """
    if model.ensemble is None:
        return 0.0, 1.0
    stds = [m.standing.std for m in (model, *model.members)]
    return model.standing.mean, sum(stds) / len(stds) / model.standing.std


def _payments(options: Any, path: str) -> Iterator[Mapping[str, Any]]:
    """The mappings among an environment's options that name a reward model's folder."""
    if isinstance(options, Mapping):
        if options.get("path") == path:
            yield options
        options = list(options.values())
    if isinstance(options, list | tuple):
        for option in options:
            yield from _payments(option, path)


def check_critic(config: RLConfig, unborn: Collection[str] = ()) -> None:
    """What ``load_critic`` would refuse, told without reading weights.

    Raises:
        UserError: One line.
    """
    path = config.value_path
    if path is None or path in unborn:
        return
    from agent_rl import models  # noqa: PLC0415
    from agent_rl.reward_models.folder import check_folder, read_record  # noqa: PLC0415

    try:
        theirs = check_folder(path)
    except UserError as error:
        raise UserError(f"{PLACE}: {error}") from error
    _refuse_probabilities(path, read_record(path)[0].kind)
    if config.model.path not in unborn:
        refuse_other_ids(path, theirs, models.load_chat(config.model))


def _refuse_probabilities(path: str, kind: str) -> None:
    if kind in ("outcome", "process"):
        raise UserError(
            f"{PLACE}: {path} is of the kind {kind}, whose scores are probabilities and not "
            "rewards; take one of the kind bradley_terry or ranking, or leave value_path out"
        )


PROBE: Any = (
    [{"role": "user", "content": "1 + 2 = ?\n Go on."}],
    [
        {"role": "user", "content": "a b"},
        {"role": "assistant", "content": "Well, 3."},
        {"role": "user", "content": "c"},
    ],
)


def refuse_other_ids(path: str, theirs: Chat, chat: Chat) -> None:
    """Refuse a reward model that would read other texts in the policy's ids than the policy.

    Compared are the ids of every entry of the vocabularies, and what the chat templates and
    tokenizers make of two short conversations.

    Raises:
        UserError: They differ.
    """
    mine, other = chat.tokenizer.get_vocab(), theirs.tokenizer.get_vocab()
    if mine != other:
        differing = sum(mine.get(token) != at for token, at in other.items())
        differing += sum(token not in other for token in mine)
        raise UserError(
            f"{PLACE}: {path} has another tokenizer than the policy ({differing} of "
            f"{len(mine.keys() | other.keys())} entries of the vocabularies differ), so it cannot "
            "read the policy's ids; train it from the policy's own base model"
        )
    same = all(chat.prompt_ids(p) == theirs.prompt_ids(p) for p in PROBE)
    if not same or chat.completion_ids("Well, 3.") != theirs.completion_ids("Well, 3."):
        raise UserError(
            f"{PLACE}: {path} writes a conversation in other ids than the policy (another chat "
            "template or tokenizer); train it from the policy's own base model"
        )
