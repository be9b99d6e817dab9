"""Constitutional AI: answers criticised and revised by principles, and pairs chosen by them.

Bai et al. 2022 (arXiv 2212.08073): ``revise`` makes the data of its supervised stage, ``label`` the
comparisons of its stage of RL from AI feedback.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_rl.chunks import ChunkFile
from agent_rl.config import AIFeedbackConfig
from agent_rl.errors import UserError
from agent_rl.feedback.principles import Principle, load_principles
from agent_rl.feedback.prompts import Prompt, prompts_of
from agent_rl.feedback.speakers import (
    EndpointSpeaker,
    FeedbackError,
    LocalSpeaker,
    Reply,
    Speaker,
    option_ids,
    without_thinking,
)
from agent_rl.models import load_chat
from agent_rl.preferences.pairs import Pair
from agent_rl.preflight import check_env, check_model, located
from agent_rl.rollout import seed_of
from agent_rl.runs import Console, RunFolder
from agent_rl.runs.files import to_json, write_atomically
from rl_envs import content_id
from rl_envs.types import Message

DATA, FEEDBACK = "data.jsonl", "feedback.jsonl"
OUTCOMES = ("kept", "tie", "same", "cut", "empty", "too_long", "error")
ANSWER, PRINCIPLE, CRITIQUE, REVISION = range(4)  # mixed into seeds


def check(config: AIFeedbackConfig, unborn: Collection[str] = ()) -> None:
    """What can be known to fail before anything is said.

    Raises:
        UserError: One line that names the setting.
    """
    check_model(config.model, unborn)
    with located("principles_path"):
        load_principles(config.principles_path, config.mode)
    judge = config.judge
    with located("judge"):
        if judge.endpoint is not None:
            EndpointSpeaker(
                judge.endpoint, config.judge_sampling, config.run.seed, config.max_chars
            ).check()
        elif judge.model is not None:
            check_model(judge.model, unborn)
        local = judge.model or config.model
        is_there = judge.endpoint is None and str(local.path) not in unborn
        if config.mode == "label" and is_there:
            option_ids(load_chat(local))
    with located("prompts"):
        if config.prompts.env is not None:
            check_env(config.prompts.env)
        elif config.prompts.path not in unborn:
            prompts_of(config.prompts, config.tasks, config.run.seed)


def run(
    config: AIFeedbackConfig, folder: RunFolder, show: Console, *, resume: bool = False
) -> dict[str, Any]:
    """Ask, and leave ``data.jsonl`` and what became of every prompt in ``folder``.

    Args:
        config: All settings.
        folder: Where everything goes.
        show: What the person at the terminal sees.
        resume: Keep the chunks of prompts that are whole.

    Returns:
        The summary, as in ``summary.json``.

    Raises:
        UserError: The judge failed for a whole chunk, or nothing is left.
    """
    started = time.perf_counter()
    principles = load_principles(config.principles_path, config.mode)
    prompts = prompts_of(config.prompts, config.tasks, config.run.seed)
    file = ChunkFile(folder.path / FEEDBACK, config.tasks_at_once, len(prompts), resume=resume)
    folder.truncate_after(file.done)
    show.start(file.n_chunks, done=file.done)
    if file.done < file.n_chunks:
        policy, judge = speakers_of(config)
        work = Work(config, policy, judge, principles)
        with asyncio.Runner() as loop:
            while file.done < file.n_chunks:
                first = file.n_items
                chunk = prompts[first : first + file.size]
                rows = loop.run(work.chunk(chunk, first))
                _refuse_failure(rows)
                file.append(rows)
                metrics = _metrics(rows)
                folder.log(file.done, metrics, stage="ai_feedback")
                show.step(file.done, metrics)
    show.stop()
    said = file.rows()
    rows = [row["row"] for row in said if row["row"] is not None]
    if not any(row["outcome"] == "kept" for row in said):
        counted = ", ".join(f"{n} {name}" for name, n in _outcomes(said).items() if n)
        raise UserError(f"none of {len(said)} prompts gave data: {counted}; see {FEEDBACK}")
    write_atomically(folder.path / DATA, "".join(f"{to_json(row)}\n" for row in rows))
    summary = {
        "stage": "ai_feedback",
        "mode": config.mode,
        "seed": config.run.seed,
        "prompts": len(said),
        "rows": len(rows),
        "outcomes": _outcomes(said),
        **(_revise_figures(rows) if config.mode == "revise" else _label_figures(rows)),
        "train_seconds": time.perf_counter() - started,
        "finished": True,
    }
    folder.write_summary(summary)
    return summary


def speakers_of(config: AIFeedbackConfig) -> tuple[Speaker, Speaker]:
    """The policy, and who judges it."""
    seed, most = config.run.seed, config.max_chars
    policy = LocalSpeaker(config.model, config.sampling, seed, most)
    judge = config.judge
    if judge.endpoint is not None:
        return policy, EndpointSpeaker(judge.endpoint, config.judge_sampling, seed, most)
    if judge.model is not None:
        return policy, LocalSpeaker(judge.model, config.judge_sampling, seed, most)
    return policy, policy.speaking(config.judge_sampling)


class _Left(Exception):  # noqa: N818 - a finding
    """A prompt gives no row; ``outcome`` says why."""

    def __init__(self, outcome: str, reason: str = "") -> None:
        super().__init__(reason)
        self.outcome = outcome


@dataclass(frozen=True)
class Work:
    """What is done with a prompt. Everything drawn depends on the seed and the prompt's number."""

    config: AIFeedbackConfig
    policy: Speaker
    judge: Speaker
    principles: Sequence[Principle]

    async def chunk(self, prompts: Sequence[Prompt], first: int) -> list[dict[str, Any]]:
        """A line of ``feedback.jsonl`` for each prompt, all worked on at once."""
        do = self.revise if self.config.mode == "revise" else self.label
        return await asyncio.gather(
            *(self._one(do(prompt, n), n) for n, prompt in enumerate(prompts, start=first))
        )

    async def _one(self, doing: Coroutine[Any, Any, dict[str, Any]], number: int) -> dict[str, Any]:
        try:
            row = await doing
        except (_Left, FeedbackError) as error:
            return {"prompt": number, "outcome": error.outcome, "reason": str(error), "row": None}
        return {
            "prompt": number,
            "outcome": "tie" if row.get("tie") else "kept",
            "reason": "",
            "row": row,
        }

    async def revise(self, prompt: Prompt, number: int) -> dict[str, Any]:
        """The prompt and the last revision, with the whole chain."""
        first = self._whole(await self.policy.reply(prompt, self._seed(number, ANSWER)))
        answer, chain = first, []
        for turn in range(self.config.rounds):
            principle = self._principle(number, turn)
            asked: list[Message] = [
                *prompt,
                {"role": "assistant", "content": answer},
                {"role": "user", "content": principle.critique},
            ]
            said = await self.judge.reply(asked, self._seed(number, CRITIQUE, turn))
            critique = without_thinking(said.text)
            if not critique:
                raise _Left("empty", f"the critique of round {turn + 1} is empty")
            asked += [
                {"role": "assistant", "content": critique},
                {"role": "user", "content": principle.revision},
            ]
            said = await self.judge.reply(asked, self._seed(number, REVISION, turn))
            answer = self._whole(Reply(without_thinking(said.text), said.cut))
            chain.append({"principle": principle.name, "critique": critique, "revision": answer})
        return {
            "prompt": [dict(m) for m in prompt],
            "completion": [{"role": "assistant", "content": answer}],
            "response": first,
            "revisions": chain,
            "id": content_id(list(prompt)),
        }

    async def label(self, prompt: Prompt, number: int) -> dict[str, Any]:
        """Two answers in TRL's columns, with the probability that the chosen one is better."""
        replies = await asyncio.gather(
            *(self.policy.reply(prompt, self._seed(number, ANSWER, n)) for n in range(2))
        )
        one, other = (self._whole(reply) for reply in replies)
        shown = without_thinking(one), without_thinking(other)
        if shown[0] == shown[1]:
            raise _Left("same", "both answers are the same")
        if not all(shown):
            raise _Left("empty", "an answer is all thinking")
        principle = self._principle(number, 0)
        said = await self.judge.prefer(prompt, *shown, principle)
        is_first = said.first >= 0.5
        info = {
            "probability": max(said.first, 1 - said.first),
            "principle": principle.name,
            "position_consistent": said.is_consistent,
            "first_place": (said.as_a + 1 - said.as_b) / 2,
            "chosen_first": is_first,
        }
        chosen, rejected = (one, other) if is_first else (other, one)
        tie = abs(said.first - 0.5) <= self.config.tie_margin
        pair = Pair(prompt, chosen, rejected, info=info, tie=tie)
        return {**pair.row(), "id": pair.item}

    def _whole(self, reply: Reply) -> str:
        """A reply that may become data.

        Raises:
            _Left: It is empty, or was cut.
        """
        if not reply.text.strip():
            raise _Left("empty", "an answer is empty")
        if reply.cut and self.config.on_truncation == "drop":
            raise _Left("cut", "an answer was cut at the token limit")
        return reply.text

    def _principle(self, number: int, turn: int) -> Principle:
        return self.principles[self._seed(number, PRINCIPLE, turn) % len(self.principles)]

    def _seed(self, number: int, *parts: int) -> int:
        return seed_of(self.config.run.seed, number, *parts)


def _refuse_failure(rows: Sequence[Mapping[str, Any]]) -> None:
    """Stop when nobody could be reached: the next chunks would end the same way."""
    failed = [row for row in rows if row["outcome"] == "error"]
    if failed and len(failed) == len(rows):
        raise UserError(
            f"all {len(rows)} prompts failed by our own fault, the first with: "
            f"{failed[0]['reason']}; mend it, then --resume"
        )


def _outcomes(said: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    counted = Counter(row["outcome"] for row in said)
    return {name: counted[name] for name in OUTCOMES}


def _metrics(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    metrics = {f"feedback/{name}": n / len(rows) for name, n in _outcomes(rows).items()}
    made = [row["row"] for row in rows if row["row"] is not None]
    if made and "probability" in made[0]:
        metrics["feedback/consistent"] = statistics.fmean(r["position_consistent"] for r in made)
        metrics["feedback/probability"] = statistics.fmean(r["probability"] for r in made)
    return metrics


def _revise_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Lengths before and after, and how many answers came back as they were."""
    after = [row["completion"][0]["content"] for row in rows]
    return {
        "characters_before": statistics.fmean(len(row["response"]) for row in rows),
        "characters_after": statistics.fmean(map(len, after)),
        "unchanged": statistics.fmean(
            row["response"].strip() == text.strip() for row, text in zip(rows, after, strict=True)
        ),
        "principles": dict(
            Counter(step["principle"] for row in rows for step in row["revisions"]).most_common()
        ),
    }


def _label_figures(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How sure and how consistent the judge was, what it favours, and the principles drawn."""
    decided = [row for row in rows if not row.get("tie")]
    longer = [
        (len(row["chosen"][0]["content"]), len(row["rejected"][0]["content"])) for row in decided
    ]
    unequal = [chosen > rejected for chosen, rejected in longer if chosen != rejected]
    return {
        "probability": statistics.fmean(row["probability"] for row in rows),
        "position_consistent": statistics.fmean(row["position_consistent"] for row in rows),
        "first_place": statistics.fmean(row["first_place"] for row in rows),
        "longer_chosen": statistics.fmean(unequal) if unequal else None,
        "principles": dict(Counter(row["principle"] for row in rows).most_common()),
    }
