"""Preference data: pairs of answers of which one was preferred, whatever the file calls them."""

from __future__ import annotations

from agent_rl.preferences.pairs import Pair, PairFile, grouped, load_pairs, read_pairs

__all__ = ["Pair", "PairFile", "grouped", "load_pairs", "read_pairs"]
