"""One run, from a checked config to a finished folder.

Floor 5. May import core, metrics, data, models, backbones, store and runs.
"""
