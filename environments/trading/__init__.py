"""A seeded market to trade in: prediction markets and perpetual futures, news of both, and an hour a turn.

``environment`` plays ``world`` with ``game``, whose money is in ``account`` and whose yes/no shares are made by
``maker``; ``trader`` is the scripted expert. ``small`` is a market of one line for small models.
"""
