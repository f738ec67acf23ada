"""A module for each loss, with its options and all that the program has to know of it.

A loss of the user's own is a function or class that `loss._target_` names (`outside`). Floor 2.
"""
