"""Pipelines: from demonstrations over SFT to rounds of RL on a fleet, level-triggered like the fleet itself."""
