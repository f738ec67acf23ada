"""A module for each optimizer, with its options.

Any other of PyTorch's or of the user's own is a class that `optimizer._target_` names (`outside`). Floor 2.
"""
