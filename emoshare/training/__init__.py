"""One run, from a checked config to a finished folder.

Floor 4. May import core, data, models, backbones, store and runs.
"""
