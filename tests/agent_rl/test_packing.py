"""Packed rows compute what each sequence alone computes; masks are provenance, not token values."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from agent_rl.critic import LinearCritic
from agent_rl.packing import pack
from agent_rl.policy import Policy
from agent_rl.trajectory import Segment, Trajectory, Turn, segments


def llama(vocabulary: int = 23) -> torch.nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
    )
    return LlamaForCausalLM(config).eval().double()


def gpt2(vocabulary: int = 23) -> torch.nn.Module:
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=256)
    return GPT2LMHeadModel(config).eval().double()


@torch.no_grad()
def naive_logprobs(
    model: torch.nn.Module, segment: Segment, temperature: float = 1.0
) -> list[float]:
    """Each sampled token from one plain forward pass over that sequence alone."""
    logits = model(torch.tensor([segment.ids])).logits[0] / temperature
    logprobs = logits.log_softmax(-1)
    return [float(logprobs[p - 1, segment.ids[p]]) for p in segment.sampled]


def sample_segments() -> list[Segment]:
    prompt, other = (1, 2, 3, 4), (5, 0, 0, 6)  # id 0 is the padding fill: it may occur in a prompt
    return [
        Segment((*prompt, 7, 8, 0), (4, 5, 6), 4),
        Segment((*prompt, 9), (4,), 4),
        Segment((*other, 7, 8, 9, 10, 11), (4, 5, 8), 4),  # a gap: 6 and 7 are a tool's
        Segment((*prompt, 7, 8, 12), (4, 5, 6), 4),
    ]


@pytest.mark.parametrize("make", [llama, gpt2], ids=["rotary", "learned positions"])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("micro_tokens", [1, 24, 10_000])
@pytest.mark.parametrize("row_tokens", [0, 64])
def test_packed_logprobs_equal_each_sequence_alone(make, share, micro_tokens, row_tokens):
    model, parts = make(), sample_segments()
    micros = pack(parts, micro_tokens=micro_tokens, share_prompts=share, row_tokens=row_tokens)
    got, _ = Policy(model).score_all(micros)
    want = [x for part in parts for x in naive_logprobs(model, part)]
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-6, rtol=0)


@settings(max_examples=25, deadline=None)
@given(
    prompts=st.lists(st.lists(st.integers(0, 22), min_size=1, max_size=6), min_size=1, max_size=3),
    sizes=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 7)), min_size=1, max_size=6),
    micro_tokens=st.integers(1, 80),
)
def test_every_target_is_scored_exactly_once(prompts, sizes, micro_tokens):
    parts = []
    for which, size in sizes:
        prompt = tuple(prompts[which % len(prompts)])
        ids = prompt + tuple((7 * i + which) % 23 for i in range(size))
        parts.append(Segment(ids, tuple(range(len(prompt), len(ids))), len(prompt)))
    micros = pack(parts, micro_tokens=micro_tokens)
    slots = sorted(int(s) for micro in micros for s in micro.slots)
    assert slots == list(range(sum(size for _, size in sizes)))


def test_sharing_lays_a_prompt_down_once():
    prompt = tuple(range(1, 11))
    parts = [Segment((*prompt, 20, 21), (10, 11), 10) for _ in range(4)]
    (shared,) = pack(parts, micro_tokens=1000)
    (apart,) = pack(parts, micro_tokens=1000, share_prompts=False)
    assert shared.input_ids.numel() == 10 + 4 * 2
    assert apart.input_ids.numel() == 4 * 12


def test_gradient_does_not_depend_on_micro_batches():
    gradients = []
    for micro_tokens in (1, 20, 10_000):
        model = llama()
        policy = Policy(model)
        for micro in pack(sample_segments(), micro_tokens=micro_tokens):
            (policy.score(micro).logprobs_k * (micro.slots + 1)).sum().backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-10, rtol=0)
    torch.testing.assert_close(gradients[0], gradients[2], atol=1e-10, rtol=0)


def test_changing_a_token_changes_only_its_own_and_later_logprobs():
    model = llama()
    before = naive_logprobs(model, Segment((1, 2, 3, 4, 5, 6), (2, 3, 4, 5), 2))
    part = Segment((1, 2, 3, 9, 5, 6), (2, 3, 4, 5), 2)
    after = Policy(model).score_all(pack([part], micro_tokens=100))[0]
    assert float(after[0]) == pytest.approx(before[0], abs=1e-6)
    assert all(abs(float(a) - b) > 1e-6 for a, b in zip(after[1:], before[1:], strict=True))


def test_first_completion_token_is_scored_from_the_last_prompt_position():
    (micro,) = pack([Segment((1, 2, 3, 9), (3,), 3)], micro_tokens=100)
    assert micro.select.tolist() == [2]
    assert micro.targets.tolist() == [9]


def test_the_end_token_is_trained_even_when_it_is_the_padding_token():
    model = llama()
    part = Segment((0, 5, 7, 0), (2, 3), 2)  # 0 is padding, end-of-sequence, and in the prompt
    (micro,) = pack([part], micro_tokens=100)
    scores = Policy(model).score(micro)
    scores.logprobs_k[1].backward()
    assert model.get_output_embeddings().weight.grad[0].abs().sum() > 0
    want = torch.tensor(naive_logprobs(model, part))
    torch.testing.assert_close(scores.logprobs_k.detach().float(), want, atol=1e-6, rtol=0)


@pytest.mark.parametrize("temperature", [0.6, 1.0, 1.3])
def test_logprobs_are_under_the_sampling_temperature(temperature):
    model, parts = llama(), sample_segments()
    got, _ = Policy(model, temperature=temperature).score_all(pack(parts, micro_tokens=100))
    want = [x for part in parts for x in naive_logprobs(model, part, temperature)]
    torch.testing.assert_close(got, torch.tensor(want), atol=1e-6, rtol=0)


def test_large_logits_give_finite_logprobs_and_a_gradient():
    model = llama()
    model.get_output_embeddings().weight.data *= 2000
    model.float()
    (micro,) = pack([Segment((1, 2, 3, 9, 4), (3, 4), 3)], micro_tokens=100)
    scores = Policy(model).score(micro)
    scores.logprobs_k.sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters()])
    assert torch.isfinite(scores.logprobs_k).all()
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0


def test_values_are_those_of_the_state_before_each_token_and_after_the_last():
    model = llama().float()
    critic = LinearCritic(model.config.hidden_size)
    torch.nn.init.normal_(critic.head.weight)
    policy = Policy(model, critic=critic)
    ids = (1, 2, 3, 4, 5)
    parts = [Segment(ids, (3, 4), 3), Segment(ids, (), 5)]
    _, values = policy.score_all(pack(parts, micro_tokens=1000))
    hidden = model.model(torch.tensor([ids])).last_hidden_state[0]
    want = critic.head(hidden)[[2, 3, 4], 0].detach()
    torch.testing.assert_close(values, want, atol=1e-5, rtol=0)


def turn(prompt: tuple[int, ...], sampled: tuple[int, ...]) -> Turn:
    return Turn(prompt, sampled, (0.0,) * len(sampled), "", 0.0, "stop")


def test_turns_that_extend_one_another_are_one_sequence_and_tool_text_is_not_sampled():
    trajectory = Trajectory("e", "t", 0, 0)
    trajectory.turns = [turn((1, 2), (3, 4)), turn((1, 2, 3, 4, 8, 8), (5,))]
    (whole,) = segments(trajectory)
    assert whole == Segment((1, 2, 3, 4, 8, 8, 5), (2, 3, 6), 2)


def test_a_rewritten_history_splits_the_trajectory():
    trajectory = Trajectory("e", "t", 0, 0)
    trajectory.turns = [turn((1, 2), (3, 4)), turn((1, 2, 4, 8), (5,))]
    assert segments(trajectory) == [
        Segment((1, 2, 3, 4), (2, 3), 2),
        Segment((1, 2, 4, 8, 5), (4,), 4),
    ]
