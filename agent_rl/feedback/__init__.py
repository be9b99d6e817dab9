"""Feedback of a model: principles, and those who criticise, revise and choose by them."""

from agent_rl.feedback.principles import Principle, load_principles

__all__ = ["Principle", "load_principles"]
