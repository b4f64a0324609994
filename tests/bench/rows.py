"""What a row of the table is: contenders that take turns, and the goals that ours is held to."""
import contextlib, dataclasses, statistics
from typing import Callable

from machine import ROUNDS, nothing, timed


@dataclasses.dataclass(frozen=True)
class Contender:
    """`figure` is a command, whose seconds count, or a function that returns what counts. `before` is not counted."""
    name: str
    figure: str | Callable
    before: Callable = nothing

    def measure(self):
        self.before()
        return timed(self.figure) if isinstance(self.figure, str) else self.figure()


@dataclasses.dataclass(frozen=True)
class Goal:
    """At most `bound` times the peer's median (at least, if more is better); without a peer, `bound` itself."""
    peer: str | None
    bound: float

    def is_met(self, ours, medians, more_is_better):
        bound = self.bound * (medians[self.peer] if self.peer else 1)
        return ours >= bound if more_is_better else ours <= bound


@dataclasses.dataclass(frozen=True)
class Row:
    """`stage` makes everything ready, yields the contenders (ours first), and takes everything away again."""
    name: str
    title: str
    stage: Callable
    goals: tuple = ()
    unit: str = "s"
    rounds: int = ROUNDS

    @property
    def more_is_better(self):
        return self.unit == "B/s"

    def medians(self, samples):
        return {contender: statistics.median(figures) for contender, figures in samples.items()}

    def is_met(self, medians):
        ours = next(iter(medians.values()))
        return all(goal.is_met(ours, medians, self.more_is_better) for goal in self.goals)

    def measure(self, done, keep):
        """The rounds that are missing. Contenders take turns within a round, so that a slow minute of the machine hits all of
        them, and each round begins with another one. `keep` gets each round as it ends."""
        with contextlib.contextmanager(self.stage)() as contenders:
            for number in range(done, self.rounds):
                first = number % len(contenders)
                figures = {one.name: one.measure() for one in contenders[first:] + contenders[:first]}
                keep({one.name: figures[one.name] for one in contenders})


def at_most(bound, peer=None):
    return Goal(peer, bound)


at_least = at_most   # the row's unit says which way is better
