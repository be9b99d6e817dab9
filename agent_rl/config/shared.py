"""Settings that several stages share, as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class TinyModel:
    """A small Llama built from its configuration, with one token per character.

    Args:
        hidden_size: Width of the residual stream.
        layers: Number of transformer blocks.
        heads: Attention heads (as many key-value heads).
        intermediate_size: Width of the feed-forward layer.
        characters: The characters that are tokens of their own; ``printable`` stands for all
            printable ASCII and the newline.
        tokens: Longer strings that are one token each, such as a box opener.
        context: Longest sequence, in tokens.
    """

    hidden_size: int = 128
    layers: int = 2
    heads: int = 4
    intermediate_size: int = 256
    characters: str = "0123456789+-*/=?,.: abcdefghijklmnopqrstuvwxyz{}()"
    tokens: tuple[str, ...] = ("\\boxed{",)
    context: int = 128


@dataclass(frozen=True)
class LoRA:
    """Low-rank adapters by peft (Hu et al. 2021); the base weights are then the reference.

    Args:
        rank: Rank of the update.
        alpha: The update is scaled by alpha / rank.
        targets: Names of the linear layers to adapt; "all-linear" adapts every one but the head.
    """

    rank: int = 16
    alpha: int = 32
    targets: str | list[str] = "all-linear"


@dataclass(frozen=True)
class ModelConfig:
    """Which model, and in which precision.

    Args:
        path: A local folder, a hub id, or in a recipe ``@name`` for the result of an earlier stage.
        tiny: Build a small random model instead of loading one.
        compute: Precision of forward and backward; master weights are float32 always, and
            bfloat16 means autocast around them.
        generation: Precision of the weights that generate; None means those of the trainer itself.
        chat_template: A file with a Jinja chat template, for a model that has none.
        history: What becomes of the thinking of earlier turns: "append" keeps it in the context as
            sampled; "template" drops it where the chat template does, which splits the episode.
        lora: Train adapters instead of all weights.
    """

    path: str | None = None
    tiny: TinyModel | None = None
    compute: Literal["float32", "bfloat16"] = "float32"
    generation: Literal["float32", "bfloat16"] | None = None
    chat_template: str | None = None
    history: Literal["append", "template"] = "append"
    lora: LoRA | None = None

    def problems(self) -> Iterator[tuple[str, str]]:
        """Settings that cannot work together."""
        if (self.path is None) == (self.tiny is None):
            yield "model", "needs either path (a folder or hub id) or tiny (its sizes)"
        tiny = self.tiny
        if tiny is not None and tiny.hidden_size % (2 * tiny.heads):
            yield "model.tiny.hidden_size", "must be a multiple of twice the heads"


@dataclass(frozen=True)
class EnvConfig:
    """An environment and its share of the tasks.

    Args:
        id: A registered id, or ``file.py`` / ``file.py:Class`` for one of your own.
        weight: Its share in the mixture, relative to the others.
        options: Passed to the environment's constructor.
    """

    id: str
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class SamplingConfig:
    """How completions are drawn. Training needs the full support: no top-p, top-k or min-p there.

    Args:
        max_tokens: Longest completion of one turn, in tokens.
        temperature: Softmax temperature; the trainer scores under the same one. 0 is greedy.
        top_p: Nucleus sampling (evaluation only).
        top_k: Keep the k likeliest tokens (evaluation only); 0 keeps all.
        min_p: Keep tokens at least this likely relative to the likeliest (evaluation only).
        stop: Strings that end a completion.
    """

    max_tokens: int = 256
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW (Loshchilov & Hutter 2019) with warm-up and decay, counted in optimiser updates.

    Args:
        lr: Peak learning rate.
        betas: Decay of the two moment estimates.
        weight_decay: Applied to weight matrices only, never to norms, biases or embeddings.
        warmup_steps: Linear warm-up.
        schedule: Shape of the decay after warm-up.
        final_fraction: Learning rate at the end, as a fraction of the peak.
        grad_clip: Largest gradient norm; 0 turns clipping off.
    """

    lr: float = 1e-5
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.0
    warmup_steps: int = 0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    final_fraction: float = 0.0
    grad_clip: float = 1.0


@dataclass(frozen=True)
class EvaluationConfig:
    """Held-out evaluation while training.

    Args:
        every: Steps between two evaluations; 0 evaluates only before and after.
        tasks: How many held-out tasks; 0 turns evaluation off.
        samples: Samples per task at the training temperature (the sampled accuracy).
        split: The split to play; training plays ``train`` unless an environment's options differ.
    """

    every: int = 10
    tasks: int = 200
    samples: int = 1
    split: str = "test"


@dataclass(frozen=True)
class ProbesConfig:
    """Questions outside the tasks, asked at every evaluation: what the reward does to manners.

    Args:
        refusals: Harmless prompts, of which the share is measured that is refused: "built-in", or a
            file with a column ``prompt``; None asks none.
        agreement: Opposite claims, each stated as the user's view, and how far the policy agrees
            with both: "built-in", or a file with columns ``claim`` and ``opposite``; None for none.
    """

    refusals: str | None = None
    agreement: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """Where a stage writes, and what it repeats.

    Args:
        dir: The run folder.
        seed: Fixes tasks, episodes, samples and initial weights.
        threads: Threads of torch; 0 leaves torch's own choice. More than one can be many times
            slower on a busy machine.
        checkpoint_every: Steps between two checkpoints; 0 keeps only the last.
        keep_checkpoints: How many checkpoints stay.
        rollouts_every: Steps between two saved sets of rollouts; 0 saves none.
        overwrite: Replace an existing run folder.
        trackers: Names of accelerate trackers (tensorboard, wandb, trackio, mlflow).
    """

    dir: str = "runs/run"
    seed: int = 0
    threads: int = 1
    checkpoint_every: int = 50
    keep_checkpoints: int = 1
    rollouts_every: int = 1
    overwrite: bool = False
    trackers: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataConfig:
    """Supervised examples: a file, or an environment's own demonstrations.

    Args:
        path: A file, folder or hub id with ``prompt`` and ``completion``, or ``messages``.
        env: An environment whose demonstrations are the examples.
        styles: Share of each demonstration style, such as ``{worked: 0.25, terse: 0.75}``.
    """

    path: str | None = None
    env: EnvConfig | None = None
    styles: dict[str, float] = field(default_factory=dict)
