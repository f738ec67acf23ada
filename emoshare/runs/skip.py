"""Finished runs: their results, with the metrics and groups of the present config, in place of training again."""

from __future__ import annotations

import logging

from emoshare.core.kinds import values_of
from emoshare.core.leftovers import sweep_tree
from emoshare.runs.groups import complete_groups
from emoshare.runs.identity import indifferent_keys
from emoshare.runs.rescoring import complete_scores
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.results import Results

log = logging.getLogger("emoshare")


def skip_finished(resolved: ResolvedRun, sweeping: bool = False) -> Results | None:
    """The results of a finished run that is not to be trained again; nothing else is checked then.

    sweeping: the sweep has already reported the number of its finished runs.

    Raises:
        EmoshareError: they cannot be read, or the folder holds another run.
    """
    if not resolved.finished:
        return None
    run = resolved.run
    results = run.results()
    resolved.check_folder()
    run.clear_failure()
    sweep_tree(run.folder)
    complete_groups(resolved)
    results = results and complete_scores(resolved, results)
    different = indifferent_keys([results.config, values_of(resolved.config)]) if results else {}
    because = f" ({' and '.join(different)} can change no number of it)" if different else ""
    main = results and results.main
    score = f"; devel {main.label} {results.score('devel', main.name):.4f}" if results and main else ""
    log.log(logging.DEBUG if sweeping else logging.INFO, "skipped, finished before: %s%s%s", run.folder, because, score)
    return results
