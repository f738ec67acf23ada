"""What is learned: the head, its loss and its metrics, and the LightningModule that trains them.

Floor 2. May import core.
"""
