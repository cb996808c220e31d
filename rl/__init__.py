"""The pure core: records, config, scoring, advantages, statistics, promotion, protocol, errors.

Nothing here performs I/O, reads a clock or touches global randomness.
"""
