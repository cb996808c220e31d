"""Calls through the gateway beside the same calls sent to the engine directly, in the same run."""
