"""Measures two ways of doing the same in turn, for as long as it takes to tell them apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from autohybrid.device import clock, let_threads_rest, math_threads, seconds_kept_waiting, synchronize
from autohybrid.plan import Samples

FEWEST_PAIRS = 10
"""With fewer no limit at 99 % confidence exists yet, see :func:`autohybrid.stats.order_of_limit`."""

MOST_WITHOUT_LIMITS = 3 * FEWEST_PAIRS
"""However slow they are, so many pairs are made to come to any limit at all."""

MOST_PAIRS = 400
LONG_FOR_WAKING = 0.1
"""Seconds of a call in which it makes no difference that threads had to be woken at its beginning."""

LONG_ENOUGH = 1e-2
"""Seconds: a sample needs no more than one such call."""

PAIRS_BETWEEN_LOOKS = 0.2
"""The verdict is looked at when there are so many more pairs, as a part. What comes after a look finds the caches full
of other things: with a look after each pair, whoever went first in it was 5 % slower."""

Side = Callable[[bool], float]
"""What is measured: gives the seconds of one action, and is told whether it was also the last that was measured."""

SHORTEST_SAMPLE = 1e-3
"""Seconds: shorter calls are repeated within one sample, so that the clock and the loop don't count."""


def interleaved(
    eager: Side,
    hybrid: Side,
    *,
    min_gain: float,
    seconds: float,
    patience: float = 0.0,
    fewest: int = FEWEST_PAIRS,
    most: int = MOST_PAIRS,
) -> Samples:
    """Measures both in turn, swapping who goes first from pair to pair; each gives one duration in seconds.

    Ends as soon as there is a verdict against ``min_gain``: a clear winner and a hopeless one need ``fewest`` pairs, a
    close one more. The confidence of the verdict isn't spoiled by looking again and again, since the limits hold at all
    numbers of pairs together. Without a verdict it ends after ``most`` pairs, or when ``seconds`` are used up (but not
    before ``fewest`` pairs); up to ``patience`` seconds more are taken while the gain may still reach ``min_gain``.
    """
    samples = Samples(eager=[], hybrid=[])
    started = clock()
    next_look = fewest
    while len(samples.eager) < most:
        # From pair to pair the same side comes twice in a row; the very first sample has nothing before it.
        again = bool(samples.eager)
        if len(samples.eager) % 2:
            later = hybrid(again)
            samples.eager.append(eager(False))
            samples.hybrid.append(later)
        else:
            samples.eager.append(eager(again))
            samples.hybrid.append(hybrid(False))
        passed = clock() - started
        if len(samples.eager) < (fewest if passed > seconds else next_look):
            continue
        next_look = len(samples.eager) + max(1, int(PAIRS_BETWEEN_LOOKS * len(samples.eager)))
        found = samples.comparison()
        if found.verdict(min_gain) != "inconclusive":
            break
        # Pairs that resemble one another count for fewer: then there may be no limit yet, and nothing was learned.
        unlimited = found.low == 0.0 and len(samples.eager) < MOST_WITHOUT_LIMITS
        if passed > seconds + (patience if found.high >= min_gain else 0.0) and not unlimited:
            break
    return samples


def in_turn(
    eager: Callable[[], Any],
    hybrid: Callable[[], Any],
    *,
    min_gain: float,
    seconds: float,
    patience: float = 0.0,
    fewest: int = FEWEST_PAIRS,
    wall_clock: bool = False,
) -> Samples:
    """:func:`interleaved` for two actions, quick ones repeated within a sample. Seconds of one action each."""
    repeats = repeats_for(eager, hybrid)
    return interleaved(
        lambda again: duration(eager, repeats, wall_clock=wall_clock, again=again),
        lambda again: duration(hybrid, repeats, wall_clock=wall_clock, again=again),
        min_gain=min_gain,
        seconds=seconds,
        patience=patience,
        fewest=fewest,
    )


def repeats_for(*actions: Callable[[], Any]) -> int:
    """How often the quickest of ``actions`` must be repeated to make a sample of ``SHORTEST_SAMPLE``.

    An even number, since memory is often handed out in two places by turns and calls then take two times by turns; but
    once for actions of ``LONG_ENOUGH``.
    """
    seconds = max(min(_shortest(action) for action in actions), 1e-7)
    return 1 if seconds >= LONG_ENOUGH else 2 * max(1, round(SHORTEST_SAMPLE / seconds / 2.0))


def _shortest(action: Callable[[], Any]) -> float:
    found = duration(action)
    return found if found > 2.0 * SHORTEST_SAMPLE else min(found, duration(action), duration(action))


def duration(action: Callable[[], Any], repeats: int = 1, *, wall_clock: bool = False, again: bool = False) -> float:
    """Seconds that one ``action`` takes, over so many repeats.

    Time for which other work had this thread's core isn't counted where eager has one math thread. (With several, the
    others' waiting couldn't be told from their working, and one side of a comparison would be flattered.)
    With ``wall_clock`` all time is counted.

    Where there are several threads, those that the action before has left spinning are let go to sleep first, and this
    action's own are woken by a call that isn't counted: a library beside Paddle would share the cores with Paddle's
    threads otherwise, which it doesn't when it is called again and again. A call of ``LONG_FOR_WAKING`` counts itself.
    Where this action was also the last one (``again``), its threads are awake, and no others.
    """
    if not again and (wall_clock or math_threads() > 1):
        let_threads_rest()
        woken = _seconds(action)
        if woken >= LONG_FOR_WAKING:
            return woken
    before = seconds_kept_waiting()
    synchronize()
    started = clock()
    for _ in range(repeats):
        action()
    synchronize()
    passed = clock() - started
    waited = seconds_kept_waiting() - before if math_threads() == 1 and not wall_clock else 0.0
    return (passed - waited if waited < passed else passed) / repeats


def _seconds(action: Callable[[], Any]) -> float:
    synchronize()
    started = clock()
    action()
    synchronize()
    return clock() - started


def have_threads(options: Iterable[dict[str, Any]]) -> bool:
    """Whether conversions with these options may use several math threads: then all time counts.

    What keeps this thread waiting may be a thread of theirs.
    """
    return any(each.get("threads", 1) > 1 for each in options)
