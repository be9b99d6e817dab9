"""A language model as the judge, over any OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from rl_verifiers import extract
from rl_verifiers.chat_endpoint import ChatEndpoint, ChatReply, EndpointError
from rl_verifiers.judge_cache import JudgeCache, request_key
from rl_verifiers.judge_modes import (
    BadRowError,
    Material,
    Mode,
    Pairwise,
    Principles,
    Reference,
    Rubric,
    Values,
    score_of,
)
from rl_verifiers.judge_options import columns_of, first_of, named_of, scale_of
from rl_verifiers.judge_prompts import (
    TEMPLATES,
    Question,
    VerdictError,
    check_template,
    shown_prompt,
)
from rl_verifiers.option_checks import check_flags, check_one_of, check_whole
from rl_verifiers.runner import score_one, score_sync
from rl_verifiers.score import Row, Score, Verifier, VerifierError

ModeName = Literal["rubric", "pairwise", "principles", "reference"]
NoVerdict = Literal["error", "zero"]

ATTEMPTS = 3
"""Times that a judge is asked until it gives a verdict of the form asked for."""
_KEPT_OF_BAD_REPLY = 2_000
_OF_MODE: Mapping[str, tuple[str, ...]] = {
    "rubric": ("rubric", "pairwise"),
    "criteria": ("rubric",),
    "scale": ("rubric",),
    "principles": ("principles",),
    "draw": ("principles",),
    "against": ("pairwise", "reference"),
    "first": ("reference",),
}


class JudgeError(Exception):
    """The judge could not be reached, or gave no verdict: our failure."""


class NoVerdictError(JudgeError):
    """The judge answered, every time without a verdict."""


@dataclass(frozen=True)
class Asking:
    """How a judge is asked."""

    endpoint: ChatEndpoint
    temperature: float
    seed: int | None
    max_tokens: int
    json_mode: bool
    cache: JudgeCache | None

    async def ask(self, mode: Mode, asked: Question, sample: int) -> tuple[Values, ChatReply]:
        """The numbers of a verdict, and the reply with all tokens that it took.

        A reply that is no verdict is answered with what is wrong with it, twice at the most.

        Raises:
            JudgeError: No verdict.
            VerifierError: The endpoint cannot be used as configured.
        """
        params: dict[str, Any] = {"temperature": self.temperature, "max_tokens": self.max_tokens}
        params["seed"] = None if self.seed is None else self.seed + sample
        if self.json_mode:
            params["extra"] = {"response_format": {"type": "json_object"}}
        key = request_key(self.endpoint.model, asked.messages, {**params, "sample": sample})
        kept = self.cache.get(key) if self.cache is not None else None
        if kept is not None:
            try:
                return mode.values(kept.text, asked), kept
            except VerdictError:
                pass  # another version read it otherwise
        values, reply = await self._verdict(mode, asked, params)
        if self.cache is not None:
            self.cache.put(key, self.endpoint.model, reply)
        return values, reply

    async def _verdict(
        self, mode: Mode, asked: Question, params: Mapping[str, Any]
    ) -> tuple[Values, ChatReply]:
        messages = list(asked.messages)
        prompt_tokens = completion_tokens = 0
        problem = ""
        for _ in range(ATTEMPTS):
            try:
                reply = await self.endpoint.complete(messages, **params)
            except EndpointError as error:
                raise JudgeError(str(error)) from None
            prompt_tokens += reply.prompt_tokens
            completion_tokens += reply.completion_tokens
            try:
                values = mode.values(reply.text, asked)
            except VerdictError as error:
                problem = str(error)
                messages = [*asked.messages, *_correction(reply.text, problem)]
            else:
                return values, ChatReply(reply.text, prompt_tokens, completion_tokens)
        raise NoVerdictError(f"no verdict in {ATTEMPTS} replies of the judge: {problem}")


def _correction(reply: str, problem: str) -> list[dict[str, str]]:
    text = f"That is not the JSON object that was asked for ({problem}). Reply with it alone."
    return [
        {"role": "assistant", "content": reply[:_KEPT_OF_BAD_REPLY] or "(nothing)"},
        {"role": "user", "content": text},
    ]


@dataclass(frozen=True)
class Judge:
    """See :func:`judge`."""

    mode: Mode
    asking: Asking
    template: str
    columns: tuple[str, ...]
    samples: int
    max_chars: int
    thinking: bool
    no_verdict: NoVerdict
    first: Verifier | None
    bounded = True
    waits = True

    @property
    def reads(self) -> tuple[str, ...]:
        """The columns that it looks at."""
        first = getattr(self.first, "reads", ("answer",)) if self.first is not None else ()
        return tuple(dict.fromkeys(("prompt", *self.mode.reads, *self.columns, *first)))

    def __call__(self, completion: str, row: Row) -> Score:
        """Score one completion; blocks until the judge has answered."""
        return score_sync(self, completion, row)

    def prepare(self) -> None:
        """Find out before the first sample what can be known without asking.

        Raises:
            VerifierError: httpx is missing, the key's variable is not set, or the cache cannot be
                used.
        """
        self.asking.endpoint.check()
        if self.asking.cache is not None:
            self.asking.cache.prepare()

    async def ascore(self, completion: str, row: Row) -> Score:
        """Score one completion; other tasks run while the judge thinks."""
        text = self.judged_text(completion)
        if text is None:
            return Score.wrong("nothing to judge", status="no_answer")
        if self.first is not None:
            score = await score_one(self.first, completion, row)
            if score.passed:
                return replace(score, parts={"first": 1.0, **score.parts})
        try:
            questions = self.mode.questions(text, row, self.material(row))
        except BadRowError as error:
            return Score.wrong(str(error), status="bad_reference")
        cut = max(0, len(text) - self.max_chars)
        shortened = {"cut": cut / len(text)} if cut else {}
        try:
            answers, tokens = await self.answers(questions)
        except JudgeError as error:
            if self.no_verdict == "zero" and isinstance(error, NoVerdictError):
                return replace(Score.wrong(f"judge: {error}"), parts=shortened)
            return Score.failed(f"judge: {error}")
        value, parts = self.mode.joined(answers)
        return score_of(self.mode, value, parts, {**tokens, **shortened})

    def judged_text(self, completion: str) -> str | None:
        """What the judge is shown of a completion; None where nothing is left."""
        text = completion if self.thinking else extract.without_thinking(completion)
        return text.strip() or None if text is not None else None

    def material(self, row: Row) -> Material:
        """What a row adds to every question."""
        columns = {name: shown_prompt(row.get(name)) for name in self.columns}
        return Material(shown_prompt(row.get("prompt")), columns, self.template, self.max_chars)

    async def answers(self, questions: Sequence[Question]) -> tuple[list[Values], Values]:
        """The numbers of each verdict, and the tokens that all took.

        Raises:
            JudgeError: One of them could not be had.
        """
        asking = [
            self.asking.ask(self.mode, asked, sample)
            for asked in questions
            for sample in range(self.samples)
        ]
        done = await asyncio.gather(*asking, return_exceptions=True)
        failed = [each for each in done if isinstance(each, BaseException)]
        if failed:  # a judge that was not reached decides nothing, whatever else it said
            raise next((e for e in failed if not isinstance(e, NoVerdictError)), failed[0])
        answers, replies = [], []
        for each in done:
            assert not isinstance(each, BaseException)
            answers.append(each[0])
            replies.append(each[1])
        tokens = {
            "prompt_tokens": float(sum(reply.prompt_tokens for reply in replies)),
            "completion_tokens": float(sum(reply.completion_tokens for reply in replies)),
        }
        return answers, tokens


def judge(
    *,
    base_url: str,
    model: str,
    mode: ModeName = "rubric",
    rubric: str | None = None,
    criteria: Mapping[str, str] | None = None,
    scale: Sequence[float] | None = None,
    principles: Sequence[str] | Mapping[str, str] | None = None,
    draw: int | None = None,
    against: str | None = None,
    first: str | Mapping[str, Any] | None = None,
    pass_mark: float | None = None,
    columns: Sequence[str] = (),
    template: str | None = None,
    samples: int = 1,
    temperature: float = 0.0,
    seed: int | None = 0,
    max_tokens: int = 1024,
    max_chars: int = 20_000,
    thinking: bool = False,
    json_mode: bool = False,
    no_verdict: NoVerdict = "error",
    cache: str | None = None,
    api_key_env: str | None = None,
    timeout_s: float = 120.0,
    retries: int = 5,
    concurrency: int = 16,
) -> Judge:
    """A language model's verdict on the completion, over an OpenAI-compatible endpoint.

    ``rubric``: a score on a scale, or one for each of ``criteria``; the value is scaled to 0..1.
    ``pairwise``: the completion against the row's ``reference``, ``rejected`` or ``chosen``, asked
    in both orders; 1 or 0 where the orders agree, else 0.5. ``principles``: yes or no for each of
    some principles (constitutional AI, arXiv 2212.08073); the value is the share that is kept.
    ``reference``: whether the final answer is equivalent to ``row["answer"]``.

    The judged text is fenced with a mark that its writer cannot know, and only a JSON verdict with
    this mark counts. An empty completion is ``no_answer`` without a call; a judge that cannot be
    reached, or gives no verdict in three replies, is an ``error``, never a 0. Parts: those of the
    mode, ``prompt_tokens`` and ``completion_tokens`` as the endpoint counted them, and ``cut``, the
    share of the completion that was left out, where it was longer than ``max_chars``.

    Args:
        base_url: Of the endpoint, with the version: ``http://localhost:8000/v1``.
        model: The judge's name there.
        mode: ``rubric``, ``pairwise``, ``principles`` or ``reference``.
        rubric: What is good; for ``rubric`` the column ``rubric`` comes before it.
        criteria: Names and descriptions of what is scored apart.
        scale: The lowest and the highest score; by default 1 and 10.
        principles: The principles, or a mapping from names to them.
        draw: How many principles are drawn for each sample, by the seed and the texts.
        against: The column to compare with; for ``reference`` by default ``answer``.
        first: A verifier, for ``reference``, whose pass needs no judge: ``math``.
        pass_mark: The value from which a completion passes: by default 0.5 for ``rubric``, 0.75 for
            ``pairwise`` (a win), 1 for the others.
        columns: Columns that the judge is shown besides the prompt.
        template: A Jinja2 template in place of the mode's, see ``judge_prompts.TEMPLATES``.
        samples: How often each question is asked; the verdicts are averaged.
        temperature: Of the judge.
        seed: Sent with each request, plus the sample's number; null sends none.
        max_tokens: Of a reply.
        max_chars: Of each text that is shown; of a longer one the middle is left out.
        thinking: Show what stands before ``</think>``, too.
        json_mode: Ask the endpoint for JSON (``response_format``).
        no_verdict: ``error``; or ``zero``: a judge that answers, but gives no verdict, makes the
            completion ``wrong``, so that a text which derails the judge gains nothing by it.
        cache: A file in which verdicts are kept by model, messages and parameters.
        api_key_env: The environment variable that holds the key.
        timeout_s: Seconds for one attempt.
        retries: Further attempts after failures.
        concurrency: Requests at once.

    Raises:
        VerifierError: An option that cannot work.
    """
    given: dict[str, Any] = {
        "rubric": rubric,
        "criteria": criteria,
        "scale": scale,
        "principles": principles,
    }
    given |= {"draw": draw, "against": against, "first": first}
    _check_mode(mode, given)
    check_one_of("judge", "no_verdict", no_verdict, get_args(NoVerdict))
    check_flags("judge", thinking=thinking, json_mode=json_mode)
    check_whole("judge", samples=samples, max_tokens=max_tokens, max_chars=max_chars)
    if isinstance(seed, bool) or not isinstance(seed, int | None):
        raise VerifierError(f"judge: seed is {seed!r:.40}; it must be a whole number or null")
    if isinstance(temperature, bool) or not isinstance(temperature, int | float):
        raise VerifierError(f"judge: temperature is {temperature!r:.40}; it must be 0 to 10")
    if samples > 1 and (temperature <= 0 or mode == "pairwise"):
        raise VerifierError("judge: several samples need a temperature above 0, and not pairwise")
    if not 0 <= temperature <= 10:
        raise VerifierError(f"judge: temperature is {temperature!r:.40}; it must be 0 to 10")
    texts = {"rubric": rubric, "against": against, "template": template, "cache": cache}
    for name, text in texts.items():
        if text is not None and not isinstance(text, str):
            raise VerifierError(f"judge: {name} is {text!r:.40}; it must be a text")
    shown = columns_of(columns)
    if template is not None:
        check_template(template, mode, shown)
    endpoint = ChatEndpoint(
        base_url, model, api_key_env, timeout_s=timeout_s, retries=retries, concurrency=concurrency
    )
    kept = None if cache is None else JudgeCache(cache)
    if kept is not None:
        kept.prepare()
    return Judge(
        mode=_mode(mode, given, pass_mark, seed or 0),
        asking=Asking(endpoint, float(temperature), seed, max_tokens, json_mode, kept),
        template=template or TEMPLATES[mode],
        columns=shown,
        samples=samples,
        max_chars=max_chars,
        thinking=thinking,
        no_verdict=no_verdict,
        first=first_of(first),
    )


def _check_mode(mode: str, given: Mapping[str, object]) -> None:
    check_one_of("judge", "mode", mode, get_args(ModeName))
    for name, value in given.items():
        if value is not None and mode not in _OF_MODE[name]:
            modes = " and ".join(_OF_MODE[name])
            raise VerifierError(f"judge: {name} is for the mode {modes}, not for {mode}")


def _mode(name: str, given: Mapping[str, Any], pass_mark: float | None, seed: int) -> Mode:
    defaults = {"rubric": 0.5, "pairwise": 0.75, "principles": 1.0, "reference": 1.0}
    mark = defaults[name] if pass_mark is None else pass_mark
    if isinstance(mark, bool) or not isinstance(mark, int | float) or not 0 < mark <= 1:
        raise VerifierError(f"judge: pass_mark is {mark!r:.40}; it must be above 0 and at most 1")
    if name == "pairwise":
        return Pairwise(given["rubric"], given["against"], mark)
    if name == "reference":
        return Reference(given["against"] or "answer", mark)
    if name == "principles":
        named = named_of("principles", given["principles"])
        draw = given["draw"]
        if draw is not None and (type(draw) is not int or not 1 <= draw <= len(named)):
            raise VerifierError(f"judge: draw is {draw!r:.40}; it must be 1 to {len(named)}")
        return Principles(named, draw, seed, mark)
    low, high = scale_of(given["scale"])
    criteria = {} if given["criteria"] is None else named_of("criteria", given["criteria"])
    return Rubric(given["rubric"], criteria, low, high, mark)
