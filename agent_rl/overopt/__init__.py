"""The over-optimization laboratory: a known reward, proxies of it, and what optimizing them does.

``agent-rl overopt CONFIG`` trains a policy, draws noisy preferences from the known ("gold") reward,
trains reward models on them, optimizes against each by RL and by best-of-N, and measures gold and
proxy on the way (Gao, Schulman & Hilton 2022, "Scaling Laws for Reward Model Overoptimization").
"""
