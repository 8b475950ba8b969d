"""Labs: a scenario, a page whose title is a question, and what makes an answer of a run.

``file`` reads a lab, ``watch`` collects what the flight recorders say while it plays, ``contexts``
and ``timeline`` make the picture of it, ``microscope`` and ``stepping`` show single instruction
boundaries of the simulation, ``page`` and ``questions`` are what is read before and after.
"""
