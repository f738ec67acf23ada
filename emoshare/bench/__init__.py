"""What this machine does with a backbone and a window, and what a sweep would take.

Floor 7. May import everything below: training and the rooms that it stands on.
"""
