"""What turns samples into frames, (B, N) → (B, T, D): speech encoders with their checkpoints, and feature sets.

Floor 3. May import core, data and models.
"""
