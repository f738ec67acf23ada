"""The base of every room: the typed config, errors, whole files, hashes, hardware, the style of figures.

Floor 1. Imports nothing of emoshare outside itself.
"""
