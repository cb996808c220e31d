"""A folder of notes about people, places and organisations, and requests about it; see ``environment``."""
