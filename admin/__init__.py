"""The admin API, the pages that people look at, and what Prometheus scrapes."""
