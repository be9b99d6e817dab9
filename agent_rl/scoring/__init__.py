"""Offline scoring: recorded completions in, scores out, with the verifiers that train."""
