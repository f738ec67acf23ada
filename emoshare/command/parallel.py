"""The runs of a sweep in worker processes: several side by side, or a new process for each (`sweep.isolate`).

A worker is a process that stays, forked from one that has imported the libraries (`forkserver.py`). It is sent one run
after the other over a socket, and sends back what it logs, when the frames of its run are there, and its outcome.
The numbers are those of runs one after the other: a run has the same threads, and its random numbers depend on its
seed alone. Fusions are made by the workers, too: this process imports no PyTorch.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from typing import Any

from emoshare.command import forkserver
from emoshare.command.console import speak
from emoshare.command.fusions import RowFusion
from emoshare.command.verbs import Call, fail, train_run
from emoshare.core.cores import SideBySide, side_by_side, usable_cores
from emoshare.core.errors import EmoshareError
from emoshare.core.interrupt import REQUEST, block_signals, check_stop, deferring_stop, handling_stop_signals
from emoshare.core.progress import Step
from emoshare.runs.resolved import ResolvedRun
from emoshare.runs.sweep import recipe_key

log = logging.getLogger("emoshare")
LOG, FRAMES, DONE = "log", "frames", "done"  # what a worker's messages begin with
NO_FRAMES = ""  # recipe of a job that needs none
INTERRUPTED = 130  # exit status of a worker after Ctrl-C


def train_all(calls: Sequence[tuple[ResolvedRun, Call]], fusions: Sequence[RowFusion] = ()) -> list[Any]:
    """Train runs, each once, and make fusions: for each what it returns, or the error that it raises; runs first.

    Finished runs are looked at here. The others go to workers where there is use for more than one at a time, or where
    `sweep.isolate` asks for processes.

    Args:
        calls: the runs.
        fusions: are made when their runs have ended. Their members' numbers are places among `calls`.
    """
    left = [n for n, (run, _) in enumerate(calls) if not run.finished]
    configs = [calls[n][0].config for n in left]
    room, isolate = side_by_side(configs), any(config.sweep.isolate for config in configs)
    if room.runs == 1 and not isolate:
        done = [outcome_of(train_run, copy(run), call) for run, call in calls]  # a corpus goes with its run
        outcomes = dict(enumerate(done + [outcome_of(fusion.make) for fusion in fusions]))
    else:
        outcomes = {n: outcome_of(train_run, *call) for n, call in enumerate(calls) if n not in left}
        jobs = [Job.of_run(n, *calls[n], room.runs) for n in left]
        jobs += [Job.of_fusion(n, fusion, *calls[0]) for n, fusion in enumerate(fusions, len(calls))]
        with Pool(room, isolate) as pool:
            outcomes |= pool.run(jobs)
    return [outcomes[n] for n in range(len(outcomes))]


def outcome_of(function: Callable[..., Any], *arguments: Any) -> Any:
    """The value that a function returns, or the error that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error


@dataclass(frozen=True)
class Job:
    """A run or a fusion that waits for a worker, or is with one."""

    number: int
    run: ResolvedRun  # of a fusion, a run of the command
    call: Call
    recipe: str | None  # equal for runs that share stored frames; None where the backbone works in the loop
    fusion: RowFusion | None = None  # None for a run
    after: frozenset[int] = frozenset()  # jobs that have to end before it

    @classmethod
    def of_run(cls, number: int, run: ResolvedRun, call: Call, beside: int) -> Job:
        recipe = None if run.config.in_loop else recipe_key(run.config)
        return cls(number, run, replace(call, beside=beside), recipe)

    @classmethod
    def of_fusion(cls, number: int, fusion: RowFusion, run: ResolvedRun, call: Call) -> Job:
        return cls(number, run, call, NO_FRAMES, fusion, frozenset(fusion.members))

    def do(self, frames_there: Callable[[], None]) -> Any:
        """frames_there: is called once no frames are left to compute for it."""
        return train_run(self.run, self.call, frames_there) if self.fusion is None else self.fusion.make()


class Schedule:
    """The order in which runs start: a run never waits for frames that another computes while there is other work."""

    def __init__(self, jobs: Sequence[Job], room: SideBySide) -> None:
        self.waiting, self.room = list(jobs), room
        self.running: list[Job] = []
        self.there: set[str | None] = {NO_FRAMES}  # recipes whose frames are there

    def next(self) -> Job | None:
        """Take the run that starts now; None where all that is left has to wait for one that is running."""
        left = {job.number for job in (*self.waiting, *self.running)}
        ready = [job for job in self.waiting if job.after.isdisjoint(left)]
        heads = [job for job in ready if job.recipe in self.there]
        begun = [job.recipe for job in self.running if job.recipe not in self.there]
        others = [job for job in ready if job.recipe not in self.there and self._may_compute(job, begun)]
        first = (*others, *heads) if self.room.ahead else (*heads, *others)
        if not first:
            return None
        self.waiting.remove(first[0])
        self.running.append(first[0])
        return first[0]

    def _may_compute(self, job: Job, begun: list[str | None]) -> bool:
        """Whether a run may compute frames, or have its backbone in the loop, beside those that do.

        begun: their recipes. Under a budget frames are computed while no other run holds any.
        """
        if len(begun) >= self.room.computing or (job.recipe is not None and job.recipe in begun):
            return False
        return job.run.config.cache.max_gb is None or not self.running

    def frames_there(self, job: Job) -> None:
        self.there.add(job.recipe)

    def end(self, job: Job) -> None:
        self.running.remove(job)


class Worker:
    """A process that trains runs, seen from the sweep's."""

    def __init__(self, cores: int) -> None:
        self.job: Job | None = None
        self.said: list[logging.LogRecord] = []  # by its run, to be printed when it has ended
        environment = {"LOKY_MAX_CPU_COUNT": str(cores), **os.environ}  # of openSMILE, and of an SVR
        self.process, self.wire = forkserver.start("emoshare.command.worker:main", environment)

    def send(self, job: Job) -> None:
        self.job = job
        with suppress(OSError):  # of one that has died: its wire says so at once
            self.wire.send(job)

    def receive(self) -> tuple[str, Any] | None:
        """The worker's next message; None where it has ended, and has said all."""
        try:
            if self.process.poll() is None or self.wire.poll():
                message: tuple[str, Any] = self.wire.recv()
                return message
        except (EOFError, OSError):
            pass
        return None

    def close(self) -> None:
        """Let it end, and wait for it."""
        self.wire.close()
        self.process.wait()


class Pool:
    """Workers, and the runs that they are sent.

    Ctrl-C ends all of them, and then the sweep. Asked to stop otherwise, workers end after an epoch of their runs.
    """

    def __init__(self, room: SideBySide, fresh: bool) -> None:
        self.room, self.fresh = room, fresh  # fresh: a new worker for every run
        self.workers: list[Worker] = []

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers:  # all of them, so that they end side by side
            worker.wire.close()
        for worker in self.workers:
            worker.process.wait()
        forkserver.stop()

    def run(self, jobs: Sequence[Job]) -> dict[int, Any]:
        """Do some jobs: number → what they return (of a run what `train_run` returns), or the error that they raise.

        Raises:
            KeyboardInterrupt: after Ctrl-C or a request to stop, once every worker has closed its files and ended.
        """
        self.schedule, self.outcomes = Schedule(jobs, self.room), dict[int, Any]()
        if not jobs[0].call.quiet:
            speak(jobs[0].call.verbose, all(job.run.config.trainer.progress for job in jobs))
        try:
            with handling_stop_signals(), deferring_stop(self._stop):
                forkserver.prepare()
                for _ in range(self.room.runs):
                    with block_signals():  # they find every worker in the list, or before it is started
                        self.workers.append(self._new())
                self._finish(len(jobs))
        except BaseException:
            self._interrupt()
            raise
        return self.outcomes

    def _finish(self, count: int) -> None:
        """Hand out this number of jobs, and wait for their outcomes."""
        while len(self.outcomes) < count:
            if not REQUEST.made:
                self._send()
            busy = [worker for worker in self.workers if worker.job]
            if not busy:
                check_stop()
            for worker in _speaking(busy):
                self._hear(worker)

    def _stop(self, number: int) -> None:
        """Pass a request to stop on; no run is started any more."""
        for worker in self.workers:
            worker.process.send_signal(number)

    def _send(self) -> None:
        """Give idle workers what can start."""
        for worker in [worker for worker in self.workers if worker.job is None]:
            if (job := self.schedule.next()) is None:
                return
            if worker.process.poll() is None:
                worker.send(job)
                continue
            self._replace(worker).send(job)  # it has died while it had nothing to do

    def _hear(self, worker: Worker) -> None:
        """Take one message of a busy worker."""
        job = worker.job
        assert job is not None
        message = worker.receive()
        if message is None:
            self._fail_run(worker, job)
            return
        kind, content = message
        if kind == LOG:
            self._say(content, worker)
        elif kind == FRAMES:
            self.schedule.frames_there(job)
        elif kind == DONE:
            self._end_run(worker, job, content)

    def _say(self, record: logging.LogRecord, worker: Worker) -> None:
        """Print a worker's log record; what a run says is kept together, details and progress apart.

        The bar shows the run that has gone on for longest, and how many are beside it.
        """
        step: Step | None = getattr(record, "step", None)
        if step is None and self.room.runs > 1 and record.levelno >= logging.INFO:
            worker.said.append(record)
            return
        if step is not None:
            more = len(self.schedule.running) - 1
            text = f"{step.text} · {more} beside it" if more else step.text
            record.step = replace(step, text=text) if worker.job is self.schedule.running[0] else None
        log.handle(record)

    def _end_run(self, worker: Worker, job: Job, outcome: Any) -> None:
        """Note the outcome of a run, and replace its worker where it is not to be used again."""
        self.outcomes[job.number] = outcome
        self._free(worker, job)
        used_up = self.fresh and any(waiting.fusion is None for waiting in self.schedule.waiting)
        needed = used_up or (worker.process.poll() is not None and self.schedule.waiting)
        if needed and not REQUEST.made:
            self._replace(worker)

    def _free(self, worker: Worker, job: Job) -> None:
        """Print what a worker's run has said; the worker has none now."""
        for record in worker.said:
            log.handle(record)
        worker.said.clear()
        self.schedule.end(job)
        worker.job = None

    def _new(self) -> Worker:
        return Worker(max(usable_cores() // self.room.runs, 1))

    def _replace(self, worker: Worker) -> Worker:
        worker.close()
        with block_signals():
            self.workers[self.workers.index(worker)] = new = self._new()
        return new

    def _fail_run(self, worker: Worker, job: Job) -> None:
        """A worker has ended in the middle of a run: the run has failed, unless its results were written before."""
        status = worker.process.wait()
        if status == INTERRUPTED:
            if not REQUEST.made:
                raise KeyboardInterrupt
            self._free(worker, job)  # its run has stopped after an epoch, as others still may
            return
        if status == -signal.SIGKILL:
            reason = "killed by SIGKILL, as where memory runs out; lower sweep.parallel then"
        else:
            reason = f"killed by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        self._end_run(worker, job, _outcome_of_dead(job, reason))

    def _interrupt(self) -> None:
        """Pass Ctrl-C on, and wait until all workers have ended; what they still say is dropped."""
        alive, again = list(self.workers), True
        while alive:
            try:
                for worker in alive if again else ():
                    worker.process.send_signal(signal.SIGINT)
                again = False
                for worker in _speaking(alive):
                    if worker.receive() is None:
                        alive.remove(worker)
            except KeyboardInterrupt:
                again = True


def _outcome_of_dead(job: Job, reason: str) -> Any:
    """The outcome of a job whose worker has died."""
    if job.fusion:
        return EmoshareError(f"fusion {job.fusion.name}: its process was {reason}")
    if job.run.finished:
        return train_run(job.run, job.call)
    return outcome_of(fail, job.run, job.call, EmoshareError(f"the run's process was {reason}"))


def _speaking(workers: Sequence[Worker]) -> list[Worker]:
    """Wait until a worker has sent something or has ended, and return those that did.

    A process that a worker started may hold its socket open when it has died, so that no end of it is seen there.
    """
    while True:
        ready = wait([worker.wire for worker in workers], timeout=2)
        speaking = [worker for worker in workers if worker.wire in ready or worker.process.poll() is not None]
        if speaking:
            return speaking
