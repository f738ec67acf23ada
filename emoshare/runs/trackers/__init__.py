"""A module for each tracker, where a run is watched beside its metrics.csv.

Any other logger of Lightning's or of the user's own is a class that `logger._target_` names (`outside`). Floor 3.
Nothing here imports Lightning or a tracker's library but inside functions.
"""
