"""Rewards learned from a person's word on segments or single actions; the true ones are sealed."""
