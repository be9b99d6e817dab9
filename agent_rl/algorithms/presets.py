"""An algorithm is five choices: advantage, ratio, clip, aggregation, KL; presets name some."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal, get_args, get_type_hints

from agent_rl.algorithms.advantages import Scale
from agent_rl.algorithms.aggregation import Aggregation
from agent_rl.algorithms.kl import (
    AdaptiveKL,
    Estimator,
    FixedKL,
    Place,
    require_descent,
)
from agent_rl.algorithms.layout import AlgorithmError

Advantage = Literal["group", "leave_one_out", "max_likelihood", "none", "batch", "gae", "turn"]
Ratio = Literal["token", "sequence", "none"]
Clip = Literal["ppo", "cispo", "none"]

_SCALES: Mapping[str, tuple[str, ...]] = {
    "group": ("std", "none", "batch"),
    "turn": ("std", "none"),
    "batch": ("batch", "none"),
}
RATIO_CLIP_PAIRS = (
    ("token", "ppo"),
    ("sequence", "ppo"),
    ("token", "cispo"),
    ("token", "none"),
    ("sequence", "none"),
    ("none", "none"),
)
_COMPARES_MEMBERS = ("group", "leave_one_out", "max_likelihood", "turn")


def _check_literals(config: Any) -> None:
    """Every field typed as a Literal holds one of its values."""
    for name, hint in get_type_hints(type(config)).items():
        value, allowed = getattr(config, name), get_args(hint)
        if getattr(hint, "__origin__", None) is Literal and value not in allowed:
            raise AlgorithmError(f"{name}: {value!r} is not one of {', '.join(allowed)}")


def _raise_first(problems: Iterator[tuple[bool, str]]) -> None:
    for wrong, message in problems:
        if wrong:
            raise AlgorithmError(message)


@dataclass(frozen=True)
class KL:
    """How the policy is held near the reference.

    Attributes:
        place: ``none`` (no reference model), ``reward`` (each token pays) or ``loss`` (a term).
        estimator: k1 in the reward; k2, k3 or exact in the loss. See ``kl.DESCENT`` for what each
            descends.
        coef: Strength, in reward per nat. 0 only measures.
        target: Wanted KL in nats per trajectory, for the adaptive controller; None keeps ``coef``.
        horizon: Trajectories over which the controller acts; with ``target`` only.
    """

    place: Place = "none"
    estimator: Estimator = "k1"
    coef: float = 0.0
    target: float | None = None
    horizon: float = 10_000.0

    def __post_init__(self) -> None:
        _check_literals(self)
        require_descent(self.place, self.estimator)
        _raise_first(self._problems())

    def _problems(self) -> Iterator[tuple[bool, str]]:
        off = self.place == "none"
        yield self.coef < 0, f"kl.coef {self.coef} is negative"
        yield (
            off and self.coef != 0,
            "kl.coef does nothing with kl.place none; choose reward or loss",
        )
        yield off and self.target is not None, "kl.target does nothing with kl.place none"
        yield (
            self.target is not None and min(self.target, self.coef, self.horizon) <= 0,
            "kl.target needs kl.target, kl.coef and kl.horizon above 0",
        )

    def controller(self) -> FixedKL:
        """The coefficient's controller: adaptive if there is a target."""
        if self.target is None:
            return FixedKL(self.coef)
        return AdaptiveKL(self.coef, self.target, self.horizon)


@dataclass(frozen=True)
class Algorithm:
    """The choices that make a policy-gradient algorithm. The defaults are GRPO's, without KL.

    Attributes:
        advantage: ``group`` (minus the group's mean return), ``leave_one_out`` (minus the others'
            mean), ``max_likelihood`` (divided by the mean, too), ``none`` (the return-to-go),
            ``batch`` (the return-to-go, whitened over the batch), ``gae`` (with a value head),
            ``turn`` (group baseline per turn, for rewards per step).
        scale: What the advantage is divided by: the group's deviation (``std``), nothing, or the
            batch's. ``group`` takes all, ``turn`` std or none, ``batch`` batch or none, the
            others none.
        ratio: Importance ratio per ``token``, per ``sequence`` (GSPO) or ``none``. Without one the
            gradient is right only for samples of the current weights: one update per batch.
        clip: ``ppo`` (min of clipped and unclipped), ``cispo`` (clipped constant weight) or
            ``none``.
        clip_low: The ratio's lower bound is 1 - clip_low (1 or more: none). None if clip is none.
        clip_high: The ratio's upper bound is 1 + clip_high. None if clip is none.
        dual_clip: Bound of the ratio where the advantage is negative, above 1; ppo only.
        aggregation: How token losses add up: ``token``, ``sequence``, ``sequence_sum``, ``prompt``
            or ``constant`` (by the completion budget). See ``aggregation.token_weights``.
        kl: Regularization towards the reference policy.
        value_coef: Weight of the value loss; above 0 with gae, else 0.
        value_clip: Clip range of the value loss; gae only, None is off.
        gae_lambda: Lambda in [0, 1]; gae only.
        whiten_rewards: Divide the rewards of all tokens (the task's and the KL penalty) by their
            standard deviation over the batch, before anything is made of them; gae only.
        whiten_advantages: Whiten the advantages over the whole batch, as a last step.
        dynamic_sampling: Sample on until the batch holds only groups whose returns differ.
        overlong_buffer: Tokens before the completion budget at which the soft length penalty
            starts; 0 is off.
        importance_cap: Bound of the weight that corrects the sampler's logprobs; None only
            measures.
        entropy_coef: Weight of the entropy bonus.
    """

    advantage: Advantage = "group"
    scale: Scale = "std"
    ratio: Ratio = "token"
    clip: Clip = "ppo"
    clip_low: float | None = 0.2
    clip_high: float | None = 0.2
    dual_clip: float | None = None
    aggregation: Aggregation = "sequence"
    kl: KL = KL()
    value_coef: float = 0.0
    value_clip: float | None = None
    gae_lambda: float | None = None
    whiten_rewards: bool = False
    whiten_advantages: bool = False
    dynamic_sampling: bool = False
    overlong_buffer: int = 0
    importance_cap: float | None = None
    entropy_coef: float = 0.0

    def __post_init__(self) -> None:
        _check_literals(self)
        _raise_first(self._objective_problems())
        _raise_first(self._advantage_problems())

    def _objective_problems(self) -> Iterator[tuple[bool, str]]:
        bounds = (self.clip_low, self.clip_high)
        yield (
            (self.ratio, self.clip) not in RATIO_CLIP_PAIRS,
            f"ratio {self.ratio} and clip {self.clip} do not combine; (ratio, clip) is one of "
            + ", ".join(f"({ratio}, {clip})" for ratio, clip in RATIO_CLIP_PAIRS),
        )
        yield (
            self.clip == "none" and bounds != (None, None),
            "clip none uses no clip_low and clip_high; set both to null",
        )
        yield (
            self.clip != "none" and any(bound is None or bound < 0 for bound in bounds),
            f"clip {self.clip} needs clip_low and clip_high of 0 or more",
        )
        yield (
            self.dual_clip is not None and (self.clip != "ppo" or self.dual_clip <= 1),
            "dual_clip needs clip ppo and a value above 1",
        )
        yield (
            self.importance_cap is not None and self.importance_cap <= 0,
            "importance_cap must be above 0 (null only measures)",
        )
        yield self.entropy_coef < 0, "entropy_coef must not be negative"
        yield self.overlong_buffer < 0, "overlong_buffer must not be negative (0 is off)"

    def _advantage_problems(self) -> Iterator[tuple[bool, str]]:
        scales = _SCALES.get(self.advantage, ("none",))
        gae = self.advantage == "gae"
        yield (
            self.scale not in scales,
            f"advantage {self.advantage} takes scale {' or '.join(scales)}, not {self.scale}",
        )
        yield (
            self.whiten_advantages and (self.advantage == "batch" or self.scale != "none"),
            "whiten_advantages would scale twice; use it with scale none and not with batch",
        )
        yield (
            gae and (self.gae_lambda is None or self.value_coef <= 0),
            "advantage gae needs gae_lambda and a value_coef above 0",
        )
        yield (
            not gae and (self.gae_lambda, self.value_coef, self.value_clip) != (None, 0, None),
            "gae_lambda, value_coef and value_clip need advantage gae",
        )
        yield self.whiten_rewards and not gae, "whiten_rewards needs advantage gae"
        yield gae and not 0 <= (self.gae_lambda or 0) <= 1, "gae_lambda must lie in [0, 1]"
        yield (
            self.value_clip is not None and self.value_clip <= 0,
            "value_clip must be above 0 (null is off)",
        )
        yield (
            self.dynamic_sampling and self.advantage not in _COMPARES_MEMBERS,
            f"dynamic_sampling compares a group's members; advantage {self.advantage} does not",
        )
        yield (
            self.advantage == "max_likelihood"
            and (self.kl.place == "reward" or self.overlong_buffer > 0),
            "max_likelihood needs returns of 0 or more: no kl in the reward, no overlong_buffer",
        )


_ON_POLICY = Algorithm(
    advantage="none",
    scale="none",
    ratio="none",
    clip="none",
    clip_low=None,
    clip_high=None,
    aggregation="sequence_sum",
)

_PPO = Algorithm(
    advantage="gae",
    scale="none",
    aggregation="token",
    kl=KL("reward", "k1", 0.02),
    value_coef=0.1,
    value_clip=0.2,
    gae_lambda=0.95,
    whiten_advantages=True,
)

PRESETS: Mapping[str, Algorithm] = MappingProxyType(
    {
        # Shao et al. 2024, arXiv:2402.03300, equations 3 and 4, section 4.2: KL 0.04. The clip
        # range is not published; 0.2 is PPO's.
        "grpo": Algorithm(kl=KL("loss", "k3", 0.04)),
        # Liu et al. 2025, arXiv:2503.20783, section 3.2: no deviation, no length, no KL.
        "dr_grpo": Algorithm(scale="none", aggregation="constant"),
        # Ahmadian et al. 2024, arXiv:2402.14740, equation 8, appendix C: KL 0.03.
        "rloo": replace(_ON_POLICY, advantage="leave_one_out", kl=KL("reward", "k1", 0.03)),
        # Williams 1992, with returns-to-go and no baseline.
        "reinforce": _ON_POLICY,
        # Hu et al. 2025, arXiv:2501.03262, equations 8 to 10; KL 0.01 is the default of the
        # authors' OpenRLHF.
        "reinforce_plus_plus": Algorithm(
            advantage="batch",
            scale="batch",
            aggregation="token",
            kl=KL("reward", "k1", 0.01),
        ),
        # Ouyang et al. 2022, arXiv:2203.02155, appendix C.4: clip 0.2, KL 0.02 in the reward;
        # Ziegler et al. 2019 and Huang et al. 2024, arXiv:2403.17031: the other values.
        "ppo": _PPO,
        # The same with the reward whitening of Ziegler et al. 2019, arXiv:1909.08593, whose code
        # InstructGPT's descends from; the paper itself says nothing of it.
        "instructgpt": replace(_PPO, whiten_rewards=True),
        # Yu et al. 2025, arXiv:2503.14476, equations 8 to 13, section 4.1.
        "dapo": Algorithm(
            clip_high=0.28, aggregation="token", dynamic_sampling=True, overlong_buffer=4096
        ),
        # Zheng et al. 2025, arXiv:2507.18071, equations 5 to 7, section 5.1.
        "gspo": Algorithm(ratio="sequence", clip_low=3e-4, clip_high=4e-4),
        # Chen et al. 2025, arXiv:2506.13585, equations 4 and 5: no lower bound. The upper one is
        # not published there; a weight of at most 5 is ScaleRL's (arXiv:2510.13786).
        "cispo": Algorithm(clip="cispo", clip_low=1.0, clip_high=4.0, aggregation="token"),
        # Tajwar et al. 2026, arXiv:2602.02710, algorithm 1.
        "maxrl": replace(_ON_POLICY, advantage="max_likelihood"),
    }
)
"""Published algorithms by name; ``docs/algorithms.md`` has the table."""


def preset(name: str, **overrides: Any) -> Algorithm:
    """A preset with some fields replaced.

    Args:
        name: A key of ``PRESETS``.
        **overrides: Fields of :class:`Algorithm`; ``kl`` may be a mapping of fields of
            :class:`KL`, which replaces those fields only.

    Raises:
        AlgorithmError: for an unknown name or field, or choices that contradict each other.
    """
    if name not in PRESETS:
        raise AlgorithmError(f"unknown algorithm {name!r}; one of {', '.join(PRESETS)}")
    base = PRESETS[name]
    if isinstance(overrides.get("kl"), Mapping):
        overrides["kl"] = _replace(base.kl, "kl.", overrides["kl"])
    return _replace(base, "", overrides)


def _replace(config: Any, prefix: str, overrides: Mapping[str, Any]) -> Any:
    names = [field.name for field in fields(config)]
    unknown = [name for name in overrides if name not in names]
    if unknown:
        raise AlgorithmError(
            f"unknown algorithm field {prefix}{unknown[0]}; one of {', '.join(names)}"
        )
    return replace(config, **overrides)
