"""Metrics of the agreement of predicted with true shares: each once, its rules where nothing varies, and the bootstrap.

```python
from emoshare.metrics.registry import find

error = find("mae")
error.score(true, predicted)  # (N, E) and (N, E) → (E,)
error.label, error.greater_is_better  # "MAE", False
```

A metric of yours is a function on the Python path, named in `metrics` by its module and name:

```python
# my_kinds.py, then: metrics=[scc,ccc,my_kinds.worst]
def worst(true, predicted):  # (N, E) and (N, E) → (E,)
    return abs(predicted - true).max(axis=0)


worst.greater_is_better = False  # where it is left out: True
worst.label = "Worst"  # in tables; where it is left out: the function's name
worst.correlation = False  # True: by the rules of `scores.py`, NaN where labels are constant, 0 where predictions are
worst.overall = False  # True: it returns one number for all targets together
worst.resampled = None  # or a faster form for the bootstrap, as `metric.py: Resampled` has it
```

Floor 2. May import core.
"""
