import asyncio
import copy

import pytest
import torch

from agent_rl.engines import Engine, Sampling, TorchEngine
from agent_rl.engines.weights import load_state, private_copy
from agent_rl.errors import UserError


def nudge(model):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(
                0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
            )


def worst(tools, model, prompt, completion):
    logits = tools.forward(model, prompt, completion)
    ids = torch.tensor(completion.token_ids)[:, None]
    exact = logits.log_softmax(-1).gather(1, ids)[:, 0]
    return (exact - torch.tensor(completion.logprobs)).abs().max().item()


def test_training_in_place_is_seen_by_the_next_call(tools, kind):
    model = tools.build(kind)
    engine = TorchEngine(model, eos_token_ids=[])
    [prompt] = tools.prompts(40)
    [before] = tools.generate(engine, [prompt], Sampling(20, seed=1))
    nudge(model)
    engine.load_weights(None)
    [after] = tools.generate(engine, [prompt], Sampling(20, seed=1))
    assert worst(tools, model, prompt, after) < 1e-5
    assert before.logprobs != after.logprobs


def test_every_load_raises_the_version_that_completions_carry(tools):
    model = tools.build()
    engine: Engine = TorchEngine(model, eos_token_ids=[])
    versions = []
    for _ in range(3):
        [completion] = tools.generate(engine, tools.prompts(3), Sampling(2))
        versions.append((engine.policy_version, completion.policy_version))
        engine.load_weights(None)
    assert versions == [(0, 0), (1, 1), (2, 2)]


@pytest.mark.parametrize("given", ["source", "state"])
def test_a_copy_in_another_type_is_exactly_the_rounded_weights(tools, kind, given):
    model = tools.build(kind)
    engine = TorchEngine(model, eos_token_ids=[], dtype=torch.bfloat16)
    nudge(model)
    engine.load_weights(None if given == "source" else model.state_dict())
    rounded = private_copy(model, torch.bfloat16)
    asked = tools.prompts(7, 12)
    expected = tools.generate(TorchEngine(rounded, eos_token_ids=[]), asked, Sampling(10, seed=1))
    got = tools.generate(engine, asked, Sampling(10, seed=1))
    assert [(c.token_ids, c.logprobs) for c in got] == [(c.token_ids, c.logprobs) for c in expected]


def test_a_copy_does_not_change_until_told(tools):
    model = tools.build()
    engine = TorchEngine(model, eos_token_ids=[], dtype=torch.bfloat16)
    before = tools.generate(engine, tools.prompts(6), Sampling(10, seed=1))
    nudge(model)
    assert tools.generate(engine, tools.prompts(6), Sampling(10, seed=1)) == before


def test_the_models_own_type_shares_its_parameters(tools):
    model = tools.build()
    engine = TorchEngine(model, eos_token_ids=[], dtype=torch.float32)
    [prompt] = tools.prompts(6)
    nudge(model)
    [completion] = tools.generate(engine, [prompt], Sampling(10, seed=1))
    assert worst(tools, model, prompt, completion) < 1e-5


def test_a_copy_keeps_rotary_frequencies_whole_and_takes_no_gradient(tools):
    twin = private_copy(tools.build(), torch.bfloat16)
    assert twin.model.rotary_emb.inv_freq.dtype == torch.float32
    assert {p.dtype for p in twin.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in twin.parameters())


def test_a_tied_head_follows_its_embedding(tools):
    source, target = tools.build("tied"), tools.build("tied")
    nudge(source)
    load_state(target, source.state_dict())
    assert torch.equal(target.lm_head.weight, source.model.embed_tokens.weight)
    assert target.lm_head.weight is target.model.embed_tokens.weight


@pytest.mark.parametrize("left_out", ["lm_head.weight", "model.embed_tokens.weight"])
def test_one_name_of_a_tied_pair_is_enough(tools, left_out):
    source, target = tools.build("tied"), tools.build("tied")
    nudge(source)
    state = {n: t for n, t in source.state_dict().items() if n != left_out}
    load_state(target, state)
    assert torch.equal(target.lm_head.weight, source.lm_head.weight)


def change(state, how):
    state = dict(state)
    name = "model.layers.0.self_attn.q_proj.weight"
    if how == "missing":
        del state[name]
    elif how == "unknown":
        state["base_model." + name] = state[name]
    elif how == "shape":
        state[name] = state[name][:1]
    else:
        state["lm_head.weight"] = state["lm_head.weight"] + 1
    return state


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("missing", "q_proj.weight is missing"),
        ("unknown", "base_model.*q_proj.weight is not in the engine's LlamaForCausalLM"),
        ("shape", r"another shape \(\(1, 16\), not \(16, 16\)\)"),
        ("untied", "lm_head.weight.* tied in the engine"),
    ],
)
def test_a_state_that_does_not_fit_is_refused_whole(tools, how, line):
    source, target = tools.build("tied"), tools.build("tied")
    nudge(source)
    before = copy.deepcopy(target.state_dict())
    engine = TorchEngine(target, eos_token_ids=[])
    with pytest.raises(UserError, match=f"^weights: [^\n]*{line}[^\n]*$"):
        engine.load_weights(change(source.state_dict(), how))
    assert all(torch.equal(t, before[n]) for n, t in target.state_dict().items())
    assert engine.policy_version == 0


def test_weights_may_not_change_under_a_request(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])

    async def scenario():
        task = asyncio.create_task(engine.generate([3], Sampling(10)))
        await asyncio.sleep(0)
        with pytest.raises(UserError, match="while 1 requests are under way"):
            engine.load_weights(None)
        await task

    asyncio.run(scenario())


def test_weights_may_change_after_a_cancellation(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])

    async def scenario():
        task = asyncio.create_task(engine.generate([3], Sampling(80)))
        for _ in range(3):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)  # the engine has no turn between this and the next line
        engine.load_weights(None)
        return await engine.generate([3], Sampling(10))

    assert asyncio.run(scenario()).policy_version == 1


@pytest.mark.filterwarnings("ignore::FutureWarning")  # peft's own, with newer transformers
def test_a_model_with_adapters_is_served_and_its_merged_weights_fit_a_plain_one(tools):
    peft = pytest.importorskip("peft")
    plain = tools.build()
    lora = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = peft.get_peft_model(copy.deepcopy(plain), lora).eval()
    engine = TorchEngine(model, eos_token_ids=[])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(1.0)
    engine.load_weights(None)
    [prompt] = tools.prompts(9)
    [got] = tools.generate(engine, [prompt], Sampling(12, seed=1))
    assert worst(tools, model, prompt, got) < 1e-5
    merged = TorchEngine(plain, eos_token_ids=[])
    merged.load_weights(copy.deepcopy(model).merge_and_unload().state_dict())
    [same] = tools.generate(merged, [prompt], Sampling(12, seed=1))
    assert same.token_ids == got.token_ids
