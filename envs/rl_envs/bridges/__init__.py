"""Other people's environments as ours, and ours as theirs; packages are imported on use."""
