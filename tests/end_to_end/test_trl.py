"""TRL's own trainers with our rewards: a step of each on a model of random weights.

TRL is no dependency: this is skipped where it is not installed (`pip install trl==1.16.0`).
"""

import math

import pytest

from rl_verifiers import Score, make, score_sync
from rl_verifiers.interop import from_trl, trl_reward

trl = pytest.importorskip("trl", reason="trl is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

WORDS = ["2", "3", "4", "5", "+", "=", "?", "is", "so"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A word-level tokenizer with a chat template, and a model of two layers."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    special = ["<pad>", "<eos>", "<unk>"]
    vocabulary = {word: i for i, word in enumerate([*special, *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
    )
    fast.chat_template = (
        "{% for m in messages %}{{ m['content'] }} {% endfor %}"
        "{% if add_generation_prompt %}so {% endif %}"
    )

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        eos_token_id=1,
    )
    folder = str(tmp_path_factory.mktemp("tiny"))  # a trainer may want to load it twice
    LlamaForCausalLM(config).save_pretrained(folder)
    return fast, folder


class Watched:
    """A reward function that remembers what the trainer gave it and what it said."""

    __name__ = "watched"

    def __init__(self, reward):
        self.reward = reward
        self.seen = []

    def __call__(self, **keywords):
        rewards = self.reward(**keywords)
        self.seen.append((keywords, rewards))
        return rewards


def trained(kind, tiny, tmp_path, reward, *, chat=False):
    from datasets import Dataset

    tokenizer, model = tiny
    prompt = [{"role": "user", "content": "2 + 2 = ?"}] if chat else "2 + 2 = ?"
    trainer_class = getattr(trl, f"{kind}Trainer")
    config = getattr(trl, f"{kind}Config")(
        output_dir=str(tmp_path),
        per_device_train_batch_size=4,
        num_generations=4,
        max_completion_length=6,
        max_steps=2,
        logging_steps=1,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        log_completions=True,
    )
    trainer = trainer_class(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=Dataset.from_dict({"prompt": [prompt] * 8, "solution": ["4"] * 8}),
        processing_class=tokenizer,
    )
    trainer.train()
    return trainer, [entry for entry in trainer.state.log_history if "reward" in entry]


@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("kind", ["GRPO", "RLOO"])
def test_a_trainer_of_trl_gets_our_rewards(kind, chat, tiny, tmp_path):
    reward = Watched(trl_reward("math", extract="last_number", columns={"answer": "solution"}))
    _, logs = trained(kind, tiny, tmp_path, reward, chat=chat)
    assert len(reward.seen) == len(logs) == 2
    for (keywords, rewards), entry in zip(reward.seen, logs, strict=True):
        texts = [text[0]["content"] if chat else text for text in keywords["completions"]]
        verifier = make("math", extract="last_number")
        assert rewards == [score_sync(verifier, text, {"answer": "4"}).value for text in texts]
        assert entry["reward"] == pytest.approx(sum(rewards) / 4)
        assert entry["math/passed"] == pytest.approx(sum(rewards) / 4)
        assert entry["rewards/watched/mean"] == pytest.approx(sum(rewards) / 4)


def short(completion, row):
    """An error of ours for every completion that has an even number of words."""
    n_words = len(completion.split())
    return Score.failed("even") if n_words % 2 == 0 else Score.correct(value=n_words / 8)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_could_not_be_judged_is_left_out_by_the_trainer(asynchronous, tiny, tmp_path):
    seen = []

    def noted(completion, row):
        seen.append(short(completion, row))
        return seen[-1]

    reward = trl_reward(noted, name="short", asynchronous=asynchronous)
    trainer, logs = trained("GRPO", tiny, tmp_path, reward)
    values = list(trainer._logs["rewards"]["short"])
    advantages = list(trainer._logs["advantages"])
    assert any(math.isnan(value) for value in values)
    masked = [a for v, a in zip(values, advantages, strict=True) if math.isnan(v)]
    assert masked == [0.0] * len(masked)
    judged = [value for value in values[-4:] if not math.isnan(value)]
    if judged:
        assert logs[-1]["reward"] == pytest.approx(sum(judged) / len(judged))
    assert logs[-1]["short/error"] == pytest.approx(1 - len(judged) / 4)


def test_a_reward_of_trls_own_is_a_verifier():
    from trl.rewards import get_repetition_penalty_reward, think_format_reward

    verifier = from_trl(think_format_reward, conversational=True)
    assert verifier("<think>\na\n</think>\nb", {"prompt": "p"}).passed
    assert not verifier("b", {"prompt": "p"}).passed
    penalty = from_trl(get_repetition_penalty_reward(ngram_size=2))
    assert penalty("aaaaa", {"prompt": "p", "completion_ids": [5] * 5}).value == -0.75
