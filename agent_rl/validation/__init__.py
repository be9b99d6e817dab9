"""``agent-rl validate``: do right answers pass and wrong ones fail, and are the rows any good."""
