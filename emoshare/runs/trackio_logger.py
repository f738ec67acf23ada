"""A logger of Lightning's kind for trackio, whose interface is that of W&B.

https://github.com/gradio-app/trackio
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from pytorch_lightning.loggers.logger import Logger


class TrackioLogger(Logger):
    """A run of trackio, begun with its config and continued where it was left."""

    def __init__(
        self, project: str = "emoshare", group: str | None = None, run_name: str | None = None,
        space_id: str | None = None,
    ) -> None:  # fmt: skip
        """project: of runs. group: of those that belong together. space_id: a Space of the hub; None: this machine."""
        super().__init__()
        self._project, self._group, self._name, self._space = project, group, run_name, space_id
        self._run: Any = None

    @property
    def name(self) -> str:
        """The project."""
        return self._project

    @property
    def version(self) -> str | None:
        """The run."""
        return self._name

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Begin the run, which has its config from then on; a second call does nothing."""
        import trackio

        self._run = self._run or trackio.init(
            project=self._project, name=self._name, group=self._group, space_id=self._space,
            config=dict(params) if isinstance(params, dict) else vars(params),
            resume="allow", embed=False, auto_log_gpu=False, auto_log_cpu=False,
        )  # fmt: skip

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log numbers by their names."""
        self.log_hyperparams({})
        self._run.log(dict(metrics), step=step)

    def end_run(self, status: str) -> None:
        """End the run; what waits is written. Not `finalize`, which Lightning calls after each of its loops."""
        if self._run is not None:
            self._run.finish()
