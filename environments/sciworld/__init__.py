"""ScienceWorld: school science in a simulated house, played with the package's own simulator.

``gateway`` speaks to a Java process, ``simulator`` is one of them, ``pool`` shares a few among any number of episodes,
``environment`` is what an agent plays, and ``gold`` makes the table of scenarios that it deals out.
"""
