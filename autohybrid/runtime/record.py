"""The proofs that processes write down for one another: what they say, and when one may take the place of a proof.

The key of an entry says what was converted, by content. A record says that its answers were eager's. What no key can
tell are the sizes of calls with dynamic dimensions, and what eager asks of the world around it, of files and of the
environment: where that matters, a record spares no call of eager's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from autohybrid.runtime.equality import Difference, Tolerance
from autohybrid.runtime.program import Answer
from autohybrid.store import MOST_SIZES, Verified
from autohybrid.structure import Tensor


def counts(record: Verified | None, tolerance: Tolerance, proofs: int) -> bool:
    """Whether as many answers were compared as are asked for, by no wider a tolerance."""
    return (
        record is not None
        and record.rtol <= tolerance.rtol
        and record.atol <= tolerance.atol
        and record.compared >= proofs
    )


def answer_of(record: Verified, inputs: Sequence[Tensor]) -> Answer | None:
    """The structure of eager's answer to a call; None where only eager can tell it."""
    if not record.form or sizes_of(inputs) not in record.sizes:
        return None
    return Answer.restored(json.loads(record.form))


def sizes_of(inputs: Sequence[Tensor]) -> list[list[int]]:
    return [list(tensor.shape) for tensor in inputs]


def written(
    *,
    tolerance: Tolerance,
    compared: int,
    worst: Difference,
    answer: Answer,
    sizes: Sequence[list[list[int]]],
    inputs: int,
    asks: bool,
) -> Verified:
    """What is written down of a proof.

    Args:
        tolerance: how answers were compared.
        compared: how many.
        worst: the largest difference.
        answer: the structure of eager's.
        sizes: for each call the shapes of its Tensors.
        inputs: how many Tensors a call has.
        asks: whether eager looked at something that no key can tell.
    """
    described = answer.described()
    return Verified(
        rtol=tolerance.rtol,
        atol=tolerance.atol,
        compared=compared,
        error=worst.error,
        limit=worst.limit,
        scale=worst.scale,
        noise=worst.noise,
        answer=described,
        form="" if asks or not _is_told_by(described, answer, inputs) else json.dumps(described),
        sizes=list(sizes)[:MOST_SIZES],
    )


def _is_told_by(described: object, answer: Answer, inputs: int) -> bool:
    """Whether what eager answers can be put together from its description, out of the call's own Tensors."""
    restored = Answer.restored(json.loads(json.dumps(described)))
    return (
        restored is not None
        and restored.structure == answer.structure
        and restored.sources == answer.sources
        and not answer.hands_on_state(inputs)
    )
