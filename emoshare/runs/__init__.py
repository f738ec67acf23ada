"""A run on disk: its folder and identity, results and predictions; the sweep it belongs to; its logger.

Floor 4. May import core, metrics, data and models.
"""
