"""The only torch: tokens, objectives, trainer, engine, and the resident child of a device."""
