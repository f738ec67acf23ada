"""The speed of this machine with a backbone and a window, and an estimate of a sweep.

Floor 7. May import everything below: training and the rooms below it.
"""
