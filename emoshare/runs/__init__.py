"""A run as it lies on disk: its folder and identity, results and predictions; the sweep it belongs to; its logger.

Floor 3. May import core, data and models.
"""
