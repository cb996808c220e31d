"""What of a machine, its settings and its servers could keep a fleet from working; one file per kind of check."""
