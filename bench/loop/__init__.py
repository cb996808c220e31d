"""The whole loop, end to end: how long after a window's last turn the version trained on it answers."""
