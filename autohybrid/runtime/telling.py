"""What the log hears of a region's conversions."""

from __future__ import annotations

from collections.abc import Sequence

from autohybrid.logs import LOGGER
from autohybrid.runtime.conversion import FROM_STORE
from autohybrid.runtime.variant import State, Variant
from autohybrid.sizes import counted
from autohybrid.structure import Tensor


def new_kind(region: str, tensors: Sequence[Tensor]) -> None:
    """That a call came for which there was no conversion yet, and is to be one."""
    kinds = ", ".join(f"{str(tensor.dtype).rpartition('.')[2]}{list(tensor.shape)}" for tensor in tensors)
    LOGGER.debug("region %s: a new kind of call: %s", region, kinds)


def become(region: str, variant: Variant, before: State) -> None:
    """What has become of a conversion; a refusal only where nobody is warned of it in another way."""
    if variant.state is State.REFUSED:
        LOGGER.warning("region %s: stays eager here: %s", region, variant.reason)
        return
    if before is State.NEW and variant.state is not State.NEW:
        made = f"{variant.recipe.engine.name} {variant.options or ''}".strip()
        verb, stored = "converted", f" ({variant.store_note})" if variant.store_note else ""
        if variant.store_note == FROM_STORE:
            verb, stored = "opened", ""
        LOGGER.info("region %s: %s with %s in %.2f s%s", region, verb, made, variant.conversion_seconds, stored)
    if variant.state is State.SERVING:
        compared = counted(variant.compared, "answer")
        LOGGER.info("region %s: hybrid; %s compared, error %.1e", region, compared, variant.worst.error)
