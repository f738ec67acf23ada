"""A module for each head, with its options and all facts that the program needs.

Nothing here imports PyTorch but inside functions, so that a config is composed quickly. A new head of ours is a module
with a class `Options`, called as the module is, and a YAML in `conf/head/`; one of the user's own is a class that
`head._target_` names (`outside`).
"""
