"""What sharing prefixes saves a training step, beside TRL's own step and a good padded one on the same model."""
