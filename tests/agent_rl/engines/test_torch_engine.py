import asyncio
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_rl.engines import Engine, PromptTooLong, Sampling, TorchEngine
from agent_rl.engines.sampling import truncate
from agent_rl.errors import UserError

EOS = 2


def logprobs(logits, completion, temperature=1.0):
    ids = torch.tensor(completion.token_ids)[:, None]
    return (logits / temperature).log_softmax(-1).gather(1, ids)[:, 0]


def worst(expected, completion):
    return (expected - torch.tensor(completion.logprobs)).abs().max().item()


def test_is_an_engine(tools):
    assert isinstance(TorchEngine(tools.build(), eos_token_ids=[EOS]), Engine)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
def test_logprobs_equal_one_full_forward(tools, kind, temperature):
    model = tools.build(kind)
    asked = tools.prompts(1, 4, 9, 9, 2, 17)
    engine = TorchEngine(model, eos_token_ids=[EOS])
    got = tools.generate(engine, asked, Sampling(24, temperature=temperature))
    for prompt, completion in zip(asked, got, strict=True):
        expected = logprobs(tools.forward(model, prompt, completion), completion, temperature)
        assert worst(expected, completion) < 1e-5


@pytest.mark.parametrize(
    "cut", [{"top_k": 4}, {"top_p": 0.7}, {"min_p": 0.2}, {"top_k": 9, "top_p": 0.8, "min_p": 0.05}]
)
def test_logprobs_are_renormalized_over_what_truncation_kept(tools, cut):
    model = tools.build()
    sampling = Sampling(16, temperature=0.8, **cut)
    [prompt] = tools.prompts(6)
    [completion] = tools.generate(TorchEngine(model, eos_token_ids=[EOS]), [prompt], sampling)
    logits = tools.forward(model, prompt, completion) / 0.8
    n = len(logits)
    kept = truncate(
        logits,
        torch.full((n,), sampling.top_k),
        torch.full((n,), sampling.top_p),
        torch.full((n,), sampling.min_p),
    )
    assert torch.isinf(kept).any()
    assert worst(logprobs(kept, completion), completion) < 1e-5


def test_greedy_equals_transformers_generate(tools, kind):
    model = tools.build(kind)
    asked = tools.prompts(3, 8, 14, 1)
    engine = TorchEngine(model, eos_token_ids=[EOS])
    got = tools.generate(engine, asked, Sampling(20, temperature=0))
    for prompt, completion in zip(asked, got, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=20,
            eos_token_id=EOS,
            pad_token_id=0,
        )
        assert list(completion.token_ids) == theirs[0, len(prompt) :].tolist()


def test_greedy_ignores_truncation_and_reports_temperature_one(tools):
    model = tools.build()
    [prompt] = tools.prompts(5)
    engine = TorchEngine(model, eos_token_ids=[EOS])
    cut = Sampling(8, temperature=0, top_k=1, top_p=0.1, min_p=0.5)
    [completion] = tools.generate(engine, [prompt], cut)
    assert worst(logprobs(tools.forward(model, prompt, completion), completion), completion) < 1e-5


@pytest.fixture(scope="module")
def alone(tools):
    """Requests of every sort, and what each gives by itself."""
    draw = random.Random(1)
    asked = tools.prompts(1, 3, 3, 7, 12, 12, 20, 31)
    asked += [asked[4], asked[4], asked[7]]
    samplings = [
        Sampling(
            draw.randint(1, 12),
            temperature=draw.choice([0.0, 0.7, 1.0, 1.5]),
            top_p=draw.choice([1.0, 0.8]),
            top_k=draw.choice([0, 5]),
            min_p=draw.choice([0.0, 0.1]),
            seed=n,
        )
        for n in range(len(asked))
    ]
    model = tools.build()
    engine = TorchEngine(model, eos_token_ids=[EOS])
    results = [tools.generate(engine, [p], s)[0] for p, s in zip(asked, samplings, strict=True)]
    return model, list(zip(asked, samplings, results, strict=True))


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    chosen=st.lists(st.integers(0, 10), min_size=1, max_size=14),
    max_batch=st.integers(1, 9),
    cache_tokens=st.sampled_from([None, 60, 200]),
    prefill_tokens=st.sampled_from([3, 10, 4096]),
)
def test_a_request_gives_the_same_in_any_company(
    *, tools, alone, chosen, max_batch, cache_tokens, prefill_tokens
):
    model, requests = alone
    engine = TorchEngine(
        model,
        eos_token_ids=[EOS],
        max_batch=max_batch,
        cache_tokens=cache_tokens,
        prefill_tokens=prefill_tokens,
    )
    picked = [requests[i] for i in chosen]
    got = tools.generate(engine, [p for p, _, _ in picked], [s for _, s, _ in picked])
    for (_, _, expected), completion in zip(picked, got, strict=True):
        assert completion.token_ids == expected.token_ids
        assert completion.finish_reason == expected.finish_reason
        assert worst(torch.tensor(expected.logprobs), completion) < 1e-5


def test_a_burst_repeats_bit_for_bit_whatever_came_before(tools, alone):
    model, requests = alone
    asked, samplings = [p for p, _, _ in requests], [s for _, s, _ in requests]
    fresh = tools.generate(TorchEngine(model, eos_token_ids=[EOS]), asked, samplings)
    used = TorchEngine(model, eos_token_ids=[EOS])
    tools.generate(used, tools.prompts(*[40] * 30), Sampling(50))
    assert tools.generate(used, asked, samplings) == fresh


def count_tokens(model):
    seen = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: seen.append(inputs[0].numel())
    )
    return seen


def test_a_shared_prompt_is_read_once(tools):
    model = tools.build()
    seen = count_tokens(model)
    [prompt] = tools.prompts(30)
    tools.generate(TorchEngine(model, eos_token_ids=[]), [prompt] * 6, Sampling(5))
    assert sum(seen) == 29 + 6 * 5


def test_a_waiting_request_shares_the_prompt_of_a_running_one(tools):
    model = tools.build()
    seen = count_tokens(model)
    [prompt] = tools.prompts(30)
    samplings = [Sampling(3), Sampling(20), Sampling(4)]
    engine = TorchEngine(model, eos_token_ids=[], max_batch=2)
    tools.generate(engine, [prompt] * 3, samplings)
    assert sum(seen) == 29 + 3 + 20 + 4


def test_finished_rows_are_not_computed(tools):
    model = tools.build()
    seen = count_tokens(model)
    limits = [1, 2, 9, 3]
    tools.generate(
        TorchEngine(model, eos_token_ids=[]),
        tools.prompts(1, 1, 1, 1),
        [Sampling(n) for n in limits],
    )
    assert seen == [4, 3, 2, 1, 1, 1, 1, 1, 1]


@pytest.mark.parametrize("budget", [1, 7, 20])
def test_long_prompts_are_read_in_bounded_pieces(tools, budget):
    model = tools.build()
    seen = count_tokens(model)
    engine = TorchEngine(model, eos_token_ids=[], prefill_tokens=budget)
    tools.generate(engine, tools.prompts(50, 13, 13, 2), Sampling(1))
    assert max(seen[:-1]) <= budget


def test_the_cache_bound_limits_rows(tools):
    model = tools.build()
    seen = count_tokens(model)
    engine = TorchEngine(model, eos_token_ids=[], cache_tokens=35)
    tools.generate(engine, tools.prompts(*[1] * 5), Sampling(9))
    assert max(seen) == 3


def test_several_end_tokens_all_end_and_are_kept(tools):
    model = tools.build()
    ends = (4, 5, 6, 7)
    engine = TorchEngine(model, eos_token_ids=ends[:3])
    asked = tools.prompts(*[3] * 60)
    got = tools.generate(engine, asked, Sampling(40, temperature=1.5, stop_token_ids=(7,)))
    last = {c.token_ids[-1] for c in got if c.finish_reason == "stop"}
    assert last == set(ends)
    assert not any(set(ends) & set(c.token_ids[:-1]) for c in got)


def test_a_full_budget_without_end_token_is_length(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    [completion] = tools.generate(engine, tools.prompts(4), Sampling(11))
    assert (len(completion.token_ids), completion.finish_reason) == (11, "length")


def test_an_end_token_at_the_limit_is_stop(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=range(24))
    [completion] = tools.generate(engine, tools.prompts(4), Sampling(1))
    assert (len(completion.token_ids), completion.finish_reason) == (1, "stop")


def test_pad_is_an_ordinary_token_even_where_it_is_the_end_token(tools):
    model = tools.build(pad_token_id=EOS)
    prompt = [EOS, 5, EOS, EOS, 9]
    other = [5, 9]
    engine = TorchEngine(model, eos_token_ids=[EOS])
    got = tools.generate(engine, [prompt, other], Sampling(12))
    for asked, completion in zip([prompt, other], got, strict=True):
        expected = logprobs(tools.forward(model, asked, completion), completion)
        assert worst(expected, completion) < 1e-5


def test_min_tokens_bans_end_tokens_until_then(tools):
    model = tools.build()
    sampling = Sampling(20, min_tokens=6, stop_token_ids=(5,))
    ends = list(range(2, 14))
    asked = tools.prompts(*[4] * 20)
    got = tools.generate(TorchEngine(model, eos_token_ids=ends), asked, sampling)
    assert min(len(c.token_ids) for c in got) == 7  # six others, then an end token
    logits = tools.forward(model, asked[0], got[0])
    logits[:6, ends] = -torch.inf
    assert worst(logprobs(logits, got[0]), got[0]) < 1e-5


def test_a_request_is_cut_to_the_context(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    assert engine.context_length == 96
    [completion] = tools.generate(engine, tools.prompts(90), Sampling(50))
    assert (len(completion.token_ids), completion.finish_reason) == (6, "length")


def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    with pytest.raises(PromptTooLong, match="96 tokens and the context 96"):
        tools.generate(engine, tools.prompts(96), Sampling(1))


@pytest.mark.parametrize(
    ("prompt", "line"), [([], "no tokens"), ([3, 24], "0 to 23"), ([-1], "0 to 23")]
)
def test_a_prompt_the_model_cannot_read_is_refused(tools, prompt, line):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    with pytest.raises(UserError, match=line):
        tools.generate(engine, [prompt], Sampling(1))


def test_seeds_of_the_engine_count_up(tools):
    def run():
        engine = TorchEngine(tools.build(), eos_token_ids=[])
        return tools.generate(engine, tools.prompts(4) * 3, Sampling(12))

    first, again = run(), run()
    assert first == again
    assert len({c.token_ids for c in first}) == 3


def test_sampled_frequencies_are_the_models(tools):
    model = tools.build()
    [prompt] = tools.prompts(5)
    n = 4000
    engine = TorchEngine(model, eos_token_ids=[], max_batch=1000)
    samplings = [Sampling(1, temperature=1.3, seed=s) for s in range(n)]
    got = tools.generate(engine, [prompt] * n, samplings)
    probabilities = (tools.forward(model, prompt, got[0])[0] / 1.3).softmax(-1)
    counts = torch.bincount(torch.tensor([c.token_ids[0] for c in got]), minlength=24)
    chi_square = ((counts - n * probabilities) ** 2 / (n * probabilities)).sum().item()
    assert chi_square < 49.7  # 99.9 % quantile of 23 degrees of freedom


def test_cancellation_frees_the_slot(tools):
    model = tools.build()
    seen = count_tokens(model)
    engine = TorchEngine(model, eos_token_ids=[], max_batch=2)
    a, b, c = tools.prompts(1, 1, 1)

    async def scenario():
        doomed = asyncio.create_task(engine.generate(a, Sampling(80)))
        kept = asyncio.create_task(engine.generate(b, Sampling(10, seed=1)))
        late = asyncio.create_task(engine.generate(c, Sampling(4, seed=2)))
        while len(seen) < 3:
            await asyncio.sleep(0)
        doomed.cancel()
        return await asyncio.gather(kept, late)

    got = asyncio.run(scenario())
    assert [len(x.token_ids) for x in got] == [10, 4]
    assert sum(seen) <= 4 + 10 + 4  # three steps, and one while the cancellation was on its way
    again = tools.generate(engine, [b, c], [Sampling(10, seed=1), Sampling(4, seed=2)])
    assert [x.token_ids for x in got] == [x.token_ids for x in again]


def test_a_waiting_request_can_be_cancelled(tools):
    model = tools.build()
    engine = TorchEngine(model, eos_token_ids=[], max_batch=1)
    a, b = tools.prompts(2, 2)

    async def scenario():
        kept = asyncio.create_task(engine.generate(a, Sampling(10)))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(engine.generate(b, Sampling(10)), timeout=0)
        return await kept

    assert len(asyncio.run(scenario()).token_ids) == 10


def test_an_event_loop_may_die_in_mid_generation(tools):
    engine = TorchEngine(tools.build(), eos_token_ids=[])
    asked = tools.prompts(4)

    async def abandoned():
        task = asyncio.create_task(engine.generate(asked[0], Sampling(60)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not task.done()

    asyncio.run(abandoned())
    fresh = TorchEngine(tools.build(), eos_token_ids=[])
    sampling = Sampling(9, seed=5)
    assert tools.generate(engine, asked, sampling) == tools.generate(fresh, asked, sampling)


def test_requests_join_a_running_batch(tools):
    model = tools.build()
    seen = count_tokens(model)
    engine = TorchEngine(model, eos_token_ids=[])
    a, b = tools.prompts(1, 1)

    async def scenario():
        first = asyncio.create_task(engine.generate(a, Sampling(20, seed=3)))
        while len(seen) < 4:
            await asyncio.sleep(0)
        return [await engine.generate(b, Sampling(6, seed=4)), await first]

    late, early = asyncio.run(scenario())
    assert 2 in seen
    together = tools.generate(engine, [a, b], [Sampling(20, seed=3), Sampling(6, seed=4)])
    assert [c.token_ids for c in together] == [early.token_ids, late.token_ids]


def test_close_ends_requests_with_abort(tools):
    model = tools.build()
    seen = count_tokens(model)
    engine = TorchEngine(model, eos_token_ids=[], max_batch=1)
    a, b = tools.prompts(1, 1)

    async def scenario():
        running = asyncio.create_task(engine.generate(a, Sampling(50)))
        waiting = asyncio.create_task(engine.generate(b, Sampling(50)))
        while len(seen) < 3:
            await asyncio.sleep(0)
        engine.close()
        return await asyncio.gather(running, waiting)

    got = asyncio.run(scenario())
    assert [(len(c.token_ids), c.finish_reason) for c in got] == [(3, "abort"), (0, "abort")]


def test_a_diverged_model_is_reported_to_every_caller(tools):
    model = tools.build()
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    engine = TorchEngine(model, eos_token_ids=[], max_batch=1)

    async def scenario():
        calls = [engine.generate(p, Sampling(3)) for p in tools.prompts(2, 2)]
        return await asyncio.gather(*calls, return_exceptions=True)

    assert [type(e) for e in asyncio.run(scenario())] == [FloatingPointError] * 2


def test_dropout_is_off_while_sampling_and_the_mode_comes_back(tools):
    model = tools.build("gpt2", resid_pdrop=0.5, embd_pdrop=0.5, attn_pdrop=0.5)
    engine = TorchEngine(model, eos_token_ids=[])
    expected = tools.generate(engine, tools.prompts(5), Sampling(10, seed=1))
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    assert tools.generate(engine, tools.prompts(5), Sampling(10, seed=1)) == expected
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"layer_types": ["full_attention", "chunked_attention"]}, "chunked_attention"),
        ({"_attn_implementation": "flex_attention"}, "flex_attention"),
        ({"max_position_embeddings": None}, "how long its context"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused(tools, changes, line):
    model = tools.build()
    for name, value in changes.items():
        object.__setattr__(model.config, name, value)
    with pytest.raises(UserError, match=line):
        TorchEngine(model, eos_token_ids=[])
