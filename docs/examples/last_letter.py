from rl_envs import GeneratedTasks, Task, TextEnv


def draw(rng):
    word = "".join(rng.choice(list("abcdefgh"), 3))
    return Task(id=word, prompt=f"{word}=?", answer=max(word))


class LastLetter(TextEnv):
    """Which of these letters comes last in the alphabet?"""

    verifier = "exact"

    def load_tasks(self, split):
        return GeneratedTasks(draw, seed=0, split=split)
