"""The trained parts: the head and its loss, and the LightningModule that trains them.

Floor 3. May import core and metrics.
"""
