"""What is trained is what was sampled, id by id, however the text would be tokenized again."""

import asyncio
import random

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from agent_rl.chat import Chat
from agent_rl.engines import Completion, Sampling, TorchEngine
from agent_rl.experience import gather
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.rollout import Assignment, play_groups, seed_of
from rl_envs import GeneratedTasks, Reply, Task, TextEnv

TEMPLATE = (
    "{% for m in messages %}<|start|>{{ m.role }}\n{{ m.content }}<|end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant\n{% endif %}"
)
PIECES = ["the", "Ġthe", "12", "00", "ing", "Ġa", "ĊĊ", "ÃŃ"]  # as a trained vocabulary has them


@pytest.fixture(scope="module")
def byte_chat():
    """Every byte is a token, and so are some longer pieces, as in a byte-level vocabulary."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: dict[tuple[str, str], None] = {}
    words = dict.fromkeys(alphabet)
    for piece in PIECES:
        left = piece[0]
        for letter in piece[1:]:
            merges[(left, letter)] = words[left + letter] = None
            left += letter
    vocabulary = {word: n for n, word in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|eos|>",
        additional_special_tokens=["<|start|>", "<|end|>"],
    )
    fast.chat_template = TEMPLATE
    return Chat(fast)


def conversation(rng):
    text = "".join(chr(c) for c in rng.integers(32, 0x2FFF, size=rng.integers(1, 12)))
    return Task(str(rng.integers(2**60)), text, info={"turns": int(rng.integers(1, 5))})


class Babble(TextEnv):
    """One to four turns; its answers are a tool's or a user's, long, short, several or none."""

    tasks = GeneratedTasks(conversation)
    max_turns = 9

    def respond(self, action):
        if self.turn >= self.task.info["turns"]:
            return Reply(reward=1.0, terminated=True)
        number = int(self.np_random.integers(3))
        return Reply([self._message() for _ in range(number)], reward=0.1)

    def _message(self):
        role = "tool" if self.np_random.integers(2) else "user"
        return {"role": role, "content": bytes(self.np_random.bytes(9)).decode("latin-1")}


class RandomIds:
    """Samples ids at random over the whole vocabulary; keeps what it was asked and what it said."""

    policy_version = 3
    context_length = 10_000

    def __init__(self, chat):
        self.chat, self.size = chat, len(chat.tokenizer)
        self.said = {}

    async def generate(self, ids, sampling):
        rng = random.Random(sampling.seed)
        sampled = [rng.randrange(self.size) for _ in range(rng.randrange(1, 9))]
        sampled = [i for i in sampled if i not in self.chat.end_ids] or [0]
        if rng.random() < 0.5:  # else a stop string ended it
            sampled.append(rng.choice(sorted(self.chat.end_ids)))
        await asyncio.sleep(0)
        logprobs = tuple(-rng.random() for _ in sampled)
        assert sampling.seed not in self.said
        self.said[sampling.seed] = (tuple(ids), tuple(sampled), logprobs)
        return Completion(tuple(sampled), logprobs, "stop", 3)


def episodes(engine, chat, groups, size, env=None, sampling=None, seed=7):
    env = env or Babble()
    jobs = [Assignment(env, "babble", i, seed_of(i)) for i in range(groups)]
    sampling = sampling or Sampling(max_tokens=8)
    return asyncio.run(
        play_groups(
            engine,
            chat,
            jobs,
            group_size=size,
            sampling=sampling,
            seed=seed,
            on_truncation="score",  # a turn may be cut: the next one goes on from what was said
        )
    )


def said_in(engine, trajectory, seed=7):
    """The engine's own record of an episode, turn by turn, found by seeds alone."""
    start = seed_of(seed, trajectory.group, trajectory.sample)
    turns = []
    while (key := seed_of(start, len(turns))) in engine.said:
        turns.append(engine.said[key])
    return turns


@pytest.fixture(scope="module")
def thousand(byte_chat):
    engine = RandomIds(byte_chat)
    return engine, episodes(engine, byte_chat, 250, 4)


def test_the_sampled_ids_would_not_survive_decoding(thousand, byte_chat):
    engine, _ = thousand
    encode = byte_chat.tokenizer.encode
    survive = [
        encode(byte_chat.tokenizer.decode(ids), add_special_tokens=False) == list(ids)
        for _, ids, _ in engine.said.values()
    ]
    assert len(survive) > 2000
    assert sum(survive) / len(survive) < 0.2


def test_segments_hold_what_was_sampled_and_the_mask_is_its_provenance(thousand):
    engine, trajectories = thousand
    batch = gather(trajectories)
    assert (len(trajectories), len(batch.segments)) == (1000, 1000)  # every episode is one sequence
    for trajectory, segment in zip(trajectories, batch.segments, strict=True):
        turns = said_in(engine, trajectory)
        origin = [0] * len(turns[0][0])  # 1 where the engine sampled
        for (prompt, sampled, _), (following, *_) in zip(turns, [*turns[1:], ((),)], strict=True):
            assert len(prompt) == len(origin)
            origin += [1] * len(sampled)
            origin += [0] * max(0, len(following) - len(origin))
        assert segment.ids == turns[-1][0] + turns[-1][1]
        assert segment.sampled == tuple(p for p, made in enumerate(origin) if made)
    said = [i for t in trajectories for _, ids, _ in said_in(engine, t) for i in ids]
    logprobs = [x for t in trajectories for _, _, lps in said_in(engine, t) for x in lps]
    assert [s.ids[p] for s in batch.segments for p in s.sampled] == said
    torch.testing.assert_close(batch.sampler_logprobs_t, torch.tensor(logprobs), rtol=0, atol=0)
    assert {turn.policy_version for t in trajectories for turn in t.turns} == {3}


@pytest.mark.parametrize("row_tokens", [0, 512])
def test_packed_rows_predict_each_sampled_id_from_what_the_engine_saw(thousand, row_tokens):
    """Every target of every packed row, and all that it may look at, as the engine has them."""
    engine, trajectories = thousand
    batch = gather(trajectories)
    wanted = [
        (ids[k], prompt + ids[:k])
        for t in trajectories
        for prompt, ids, _ in said_in(engine, t)
        for k in range(len(ids))
    ]
    met = set()
    for micro in pack(batch.segments, micro_tokens=20_000, row_tokens=row_tokens):
        width = micro.input_ids.shape[1]
        for place, target, slot in zip(
            micro.select.tolist(), micro.targets.tolist(), micro.slots.tolist(), strict=True
        ):
            row, column = divmod(place, width)
            seen = micro.mask[row, 0, column]
            assert micro.position_ids[row][seen].tolist() == list(range(len(wanted[slot][1])))
            assert (target, tuple(micro.input_ids[row][seen].tolist())) == wanted[slot]
            met.add(slot)
    assert met == set(range(len(wanted)))


@pytest.mark.parametrize("share_prompts", [True, False])
@pytest.mark.parametrize("memory", ["full", "last"])
def test_the_trainer_scores_sampled_tokens_as_the_engine_did(byte_chat, memory, share_prompts):
    """Several turns, tool text between them, fp32: the same log-probabilities to 1e-4."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(byte_chat.tokenizer),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        intermediate_size=48,
        max_position_embeddings=512,
    )
    model = LlamaForCausalLM(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(4 if parameter.dim() > 1 else 1)  # far from uniform
    engine = TorchEngine(model, eos_token_ids=sorted(byte_chat.end_ids))
    sampling = Sampling(max_tokens=12, temperature=0.8)
    trajectories = episodes(engine, byte_chat, 8, 3, Babble(memory=memory), sampling)
    assert max(len(t.turns) for t in trajectories) == 4
    batch = gather(trajectories)
    micros = pack(batch.segments, micro_tokens=4096, share_prompts=share_prompts, row_tokens=256)
    logprobs_t, _ = Policy(model, temperature=0.8).score_all(micros)
    assert len(logprobs_t) > 300
    torch.testing.assert_close(logprobs_t, batch.sampler_logprobs_t, atol=1e-4, rtol=0)
