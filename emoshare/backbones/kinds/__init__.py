"""A module for each kind of backbone, with its options and all that the program has to know of it.

Nothing here imports PyTorch but inside functions, so that a config is composed quickly. A new backbone of ours is a
module with a class `Options`, called as its `backbone.type` is, and a YAML in `conf/backbone/`; one of the user's own
is a class that `backbone._target_` names (`outside`). Speech encoders of transformers are all of one class (`encoder`).
"""
