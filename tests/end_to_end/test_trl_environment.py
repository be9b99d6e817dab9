"""A tool environment of ours in TRL's GRPOTrainer, for real steps on a model of random weights.

TRL is no dependency: this is skipped where it is not installed (`pip install trl==1.16.0`).
"""

import json
import math
from pathlib import Path

import pytest

from rl_envs.bridges.trl import environment_factory

trl = pytest.importorskip("trl", reason="trl is not installed")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

ANSWERS = [f"\\boxed{{{number}}}" for number in (4, 5, 6)]
CALL = '<tool_call>\n{"name": "calculate", "arguments": {"expression": "2+3"}}\n</tool_call>'


@pytest.fixture
def tiny(tmp_path):
    """A tokenizer of bytes with whole answers and a whole call as tokens, TRL's template for
    Qwen3, and a model of two layers that often samples the call."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import AddedToken, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({c: i for i, c in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.add_tokens([AddedToken(text, normalized=False) for text in (CALL, *ANSWERS)])
    templates = Path(trl.__file__).parent / "chat_templates"
    fast.chat_template = (templates / "qwen3.jinja").read_text()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=4096,
        pad_token_id=fast.pad_token_id,
        eos_token_id=fast.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    wanted = fast.convert_tokens_to_ids([CALL, *ANSWERS, fast.eos_token])
    likely = torch.full((len(fast),), -20.0)
    likely[wanted] = 0.0
    model.lm_head.bias = torch.nn.Parameter(likely)
    return fast, model


def test_grpo_steps_with_calls_that_reach_our_tools(tiny, tmp_path):
    tokenizer, model = tiny
    factory = environment_factory("text/Calculator-v0", form="a+b", low=2, high=3)
    seen = []

    def reward(completions, environments, **columns):
        rewards = factory.reward(completions=completions, environments=environments, **columns)
        seen.extend(zip(columns["task_index"], completions, rewards, strict=True))
        return rewards

    config = trl.GRPOConfig(
        output_dir=str(tmp_path),
        per_device_train_batch_size=8,
        num_generations=8,
        max_completion_length=400,
        max_tool_calling_iterations=3,
        max_steps=3,
        logging_steps=1,
        learning_rate=1e-2,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        seed=0,
    )
    before = model.lm_head.weight.clone()
    trainer = trl.GRPOTrainer(
        model=model,
        reward_funcs=reward,
        args=config,
        train_dataset=factory.dataset(4),
        processing_class=tokenizer,
        environment_factory=factory,
    )
    trainer.train()
    assert math.isfinite(trainer.state.log_history[-1]["train_loss"])
    assert not before.equal(model.lm_head.weight)
    results = [m["content"] for _, text, _ in seen for m in text if m["role"] == "tool"]
    assert results
    assert "5" in results
    tasks = factory._env.tasks
    for index, text, value in seen:  # what TRL trained on is what the last message earns
        right = f"\\boxed{{{tasks[index].answer}}}"
        last = text[-1]
        assert value == float(last["role"] == "assistant" and last["content"].endswith(right))
    assert {value for _, _, value in seen} == {0.0, 1.0}


def test_trl_describes_our_tools_as_we_do():
    from transformers.utils import get_json_schema

    factory = environment_factory("text/Calculator-v0")
    episode = factory()
    made = get_json_schema(episode.calculate)["function"]
    ours = factory._env.tools["calculate"]
    assert made["name"] == "calculate"
    assert made["description"] == ours.description
    assert json.dumps(sorted(made["parameters"]["properties"])) == json.dumps(
        sorted(ours.schema["properties"])
    )
    assert set(made["parameters"]["required"]) == set(ours.schema.get("required", ()))
