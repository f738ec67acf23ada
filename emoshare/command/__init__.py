"""The command line: verbs, Hydra, and errors in one line.

Floor 8. May import everything below it. Nothing outside this room knows Hydra or OmegaConf.
"""
