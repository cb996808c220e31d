"""The inference gateway: what agents call. Chooses the version, falls back, and records each call once. No torch."""
