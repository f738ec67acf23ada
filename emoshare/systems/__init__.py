"""Heads: frames → shares. `kinds` has a module for each, `learned` what they have learned, in use.

Floor 6. May import core, metrics, data, models, backbones, store, runs and training.
"""
