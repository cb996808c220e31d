"""What is measured and what is broken on purpose: benchmarks and fault injection against real servers."""
