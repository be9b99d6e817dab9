"""A reward function that does what the completion says; run by the server's workers."""

import os
import time
from pathlib import Path


def reward(completions, **kwargs):
    """``sleep S``, ``die``, ``spin``, ``none``, ``text``, ``wait FILE`` until a file is there."""
    (text,) = completions
    word, _, argument = text.partition(" ")
    if word == "sleep":
        time.sleep(float(argument))
    elif word == "die":
        os._exit(3)
    elif word == "spin":
        while True:
            pass
    elif word == "wait":
        while not Path(argument).exists():
            time.sleep(0.01)
    return [{"none": None, "text": "high"}.get(word, 1.0)]


def sent(completions, a, b, c, d, e, **kwargs):
    """Whether the columns are as they should be after a way through JSON."""
    return [float([a, b, c, d, e] == [[0.5], [None], [[0, 1]], [[1]], ["0001-01-01"]])]
