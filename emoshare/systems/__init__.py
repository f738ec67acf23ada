"""Heads: frames → shares. `kinds` has a module for each, `learned` the trained ones.

Floor 6. May import core, metrics, data, models, backbones, store, runs and training.
"""
