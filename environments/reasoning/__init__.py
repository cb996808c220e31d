"""The data sets of reasoning-gym, each an environment of questions that are answered in one reply."""
