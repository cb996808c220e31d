"""Start, supervise and inspect all of it on one machine."""
