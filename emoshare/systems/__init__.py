"""Heads: frames → shares. `kinds` has a module for each, `learned` what they have learned, in use.

Floor 5. May import core, data, models, backbones, store, runs and training.
"""
