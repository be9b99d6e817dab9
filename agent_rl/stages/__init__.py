"""One readable loop a file: supervised fine-tuning, reinforcement learning, evaluation."""
