"""A module for each kind of backbone, with its options and all that the program has to know of it.

Nothing here imports PyTorch but inside functions, so that a config is composed quickly.
"""
