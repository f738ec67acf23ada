"""What every room stands on: the typed config, errors, whole files, hashes, hardware, the style of figures.

Floor 1. Imports nothing of emoshare outside itself.
"""
