"""A web store in text: search a catalogue, read its pages, choose options and buy what an instruction asks for.

``environment`` has the store that is generated here, in two sizes; ``original`` plays the published data where the
user has it. Both are the same pages (``pages``), visits (``visit``), search (``search``) and reward (``reward``).
"""
