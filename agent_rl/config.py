"""Every setting of every stage, as frozen dataclasses. ``loading.py`` makes them from YAML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from agent_rl.algorithms import Algorithm


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
class RLConfig:
    """Reinforcement learning: rollouts, rewards, a policy gradient with KL regularization.

    Args:
        model: The policy's starting point; the KL reference too.
        envs: The environments, mixed by weight.
        algorithm: A preset and what differs from it; see ``docs/algorithms.md``.
        sampling: How rollouts are drawn.
        optimizer: How weights move.
        evaluation: Held-out evaluation.
        run: Folder, seed, threads, checkpoints.
        steps: Batches of rollouts.
        prompts_per_step: Tasks per batch.
        group_size: Episodes of each task.
        updates_per_step: Optimiser updates on each batch: the batch is split in this many.
        epochs: Passes over each batch.
        micro_tokens: Most tokens (padding included) in one forward pass; changes memory and speed,
            nothing else.
        share_prompts: Compute the prompt that a group shares once.
        drop_zero_advantage: Leave samples without advantage out of the backward pass, and their KL
            term with them. None: only where that changes nothing (no KL, no entropy in the loss).
        on_truncation: A completion cut at the token limit earns 0 ("zero"), is judged as it
            stands ("score"), or is left out of training ("mask").
        turn_timeout_s: Seconds an environment has for an answer (its reset included). A later one
            is our failure: the episode is played again, then left out; 0 for no limit.
        episode_timeout_s: Seconds an episode has, sampling included. A later one is truncated where
            it stands; 0 for no limit.
        train_on_tool_tokens: Take the mask off: train on what the environment inserted as well. An
            ablation that shows why it is masked; it learns worse.
        reference_refresh: Steps after which the KL reference becomes the present policy; 0 never.
        opponent_refresh: Where an environment has several seats: 0 plays them all by the present
            policy; k leaves the others to a frozen copy of it that is renewed every k steps.
        value_lr: Learning rate of the value head (PPO); None takes the optimizer's.
    """

    model: ModelConfig
    envs: tuple[EnvConfig, ...]
    algorithm: Algorithm
    sampling: SamplingConfig = SamplingConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    run: RunConfig = RunConfig()
    steps: int = 100
    prompts_per_step: int = 8
    group_size: int = 8
    updates_per_step: int = 1
    epochs: int = 1
    micro_tokens: int = 8192
    share_prompts: bool = True
    drop_zero_advantage: bool | None = None
    on_truncation: Literal["zero", "score", "mask"] = "zero"
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    train_on_tool_tokens: bool = False
    reference_refresh: int = 0
    opponent_refresh: int = 0
    value_lr: float | None = None


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


@dataclass(frozen=True)
class SFTConfig:
    """Supervised fine-tuning on completions only.

    Args:
        model: The starting point.
        data: The examples.
        optimizer: How weights move.
        run: Folder, seed, threads, checkpoints.
        steps: Optimiser updates.
        batch_size: Examples per update.
        packing: Put several examples in one row of ``pack_tokens``, each blind to the others.
        pack_tokens: Length of a packed row, in tokens.
        micro_tokens: Most tokens (padding included) in one forward pass.
        held_out: Examples whose loss is measured before and after, never trained on: of the
            environment's test split, or about as many rows of a file (at most 15 %, by the hash of
            the prompt); 0 for none.
    """

    model: ModelConfig
    data: DataConfig
    optimizer: OptimizerConfig = OptimizerConfig()
    run: RunConfig = RunConfig()
    steps: int = 100
    batch_size: int = 32
    packing: bool = False
    pack_tokens: int = 512
    micro_tokens: int = 8192
    held_out: int = 64


@dataclass(frozen=True)
class EvalConfig:
    """Accuracy of a model on an environment: greedy, pass@k, majority@k, with intervals.

    Args:
        model: The model to judge.
        envs: One environment, or several that are each reported.
        sampling: How completions are drawn; temperature counts for the sampled figures.
        split: The split to play.
        tasks: How many tasks, from the first on; 0 for all.
        samples: Samples per task for pass@k and majority@k; 0 for greedy only.
        greedy: Whether to measure the greedy accuracy.
        on_truncation: A completion cut at the token limit counts as wrong ("zero"), or is judged as
            it stands ("score": games whose action is a single token).
        turn_timeout_s: Seconds an environment has for an answer; as in training.
        episode_timeout_s: Seconds an episode has; as in training.
        seed: Seed of the samples.
        threads: Threads of torch.
        concurrency: Episodes played at once.
        out: A folder for the result and every completion; None prints only.
    """

    model: ModelConfig
    envs: tuple[EnvConfig, ...]
    sampling: SamplingConfig = SamplingConfig()
    split: str = "test"
    tasks: int = 200
    samples: int = 0
    greedy: bool = True
    on_truncation: Literal["zero", "score"] = "zero"
    turn_timeout_s: float = 0.0
    episode_timeout_s: float = 0.0
    seed: int = 0
    threads: int = 1
    concurrency: int = 32
    out: str | None = None


StageConfig = SFTConfig | RLConfig
