"""From rows to a dataset: how fast calls are read, in how much memory, and what ingest loses while servers die."""
