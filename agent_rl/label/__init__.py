"""``agent-rl label``: a local web page on which a person says which of two answers is better."""
