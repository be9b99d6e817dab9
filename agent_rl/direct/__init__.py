"""Direct alignment: examples of preferences, their losses, and cached reference likelihoods."""
