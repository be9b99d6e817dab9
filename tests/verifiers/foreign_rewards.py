"""Reward functions as people write them for TRL and verl; a target of the tests."""


def exact(completions, answer, **kwargs):
    return [1.0 if text == gold else 0.0 for text, gold in zip(completions, answer, strict=True)]


def compute_score(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(solution_str == ground_truth), "acc": solution_str == ground_truth}


def by_messages(completions, solution, log_extra, completion_ids=None, trainer_state=None):
    log_extra("solution", solution)
    return [completion[0]["content"] == gold for completion, gold in zip(completions, solution)]  # noqa: B905


def nothing(completions, **kwargs):
    return [None] * len(completions)
