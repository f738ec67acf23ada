"""The frame store: frames of a frozen backbone on disk, computed once per recipe.

Floor 4. May import core, metrics, data and models. Knows no backbone: an extractor is handed in. Imports no PyTorch
but in `extract`, so that `emoshare cache` answers at once.
"""
