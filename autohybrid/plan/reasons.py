"""The codes of why something was passed over: what each means and what a user can do about it."""

from __future__ import annotations

from types import MappingProxyType

MEANINGS = MappingProxyType(
    {
        "too_small": "even if it took no time, the whole would not reach the wanted gain",
        "covered": "lies inside a region that saves more",
        "not_faster": "converts and answers as eager does, but no gain could be proven",
        "not_chosen": "gains, but another choice saves more",
        "dropped": "did not hold up when the chosen set was measured together",
        "wrong": "the conversion answers otherwise than eager",
        "failed": "the conversion raised an error",
        "crashed": "the conversion killed its process",
        "timed_out": "the conversion came to no end within its time or memory",
        "random": "eager itself answers differently to the same input",
        "state": "forward changes its own attributes or buffers",
        "effects": "forward prints, logs, writes, or changes what lies outside its Layer",
        "mutates_inputs": "forward changes the Tensors that it is given",
        "training_mode": "the model was called in training mode, where it behaves differently",
        "no_tensors": "it is called without Tensors, or computes none",
        "structure": "its answer has another structure, or other plain values in it, from call to call",
        "user_hooks": "hooks on Layers inside would no longer be called",
        "not_replayed": "the kept inputs of the root don't lead to it",
        "not_tried": "the budget was used up",
        "not_isolated": "trials could not be isolated here",
        "excluded": "the patterns of --include and --exclude leave it out",
        "between": "what happens between the calls of its sub-Layers keeps them from being one region",
        "no_chain": "its code can't be read or compiled anew, so that its sub-Layers can't be one region",
        "dry_run": "nothing is tried in a dry run",
    }
)

NOTHING_TO_DO = "nothing to do: "
"""How a hint begins that asks nothing of the user; the text report leaves it out."""

HINTS = MappingProxyType(
    {
        "too_small": NOTHING_TO_DO + "or try it all the same with a lower --min-gain",
        "covered": NOTHING_TO_DO + "it runs inside the region",
        "not_faster": NOTHING_TO_DO + "eager is as fast",
        "not_chosen": NOTHING_TO_DO + "the chosen regions save more",
        "dropped": "measure again with a larger --budget",
        "wrong": "it stays eager; the reproduction script shows the difference alone",
        "failed": "the evidence in the plan shows the error; its parts are tried by themselves",
        "timed_out": "avoid Python loops over a dimension, or give more time with --budget",
        "no_tensors": "only what takes and gives Tensors converts; its parts are tried by themselves",
        "structure": "answer with Tensors, and make labels or lists of them outside; its parts are tried by themselves",
        "not_replayed": "call it from the root's forward, in every call",
        "excluded": "change the patterns of --include and --exclude",
        "between": "move it before or behind the calls, or the calls into a method of their own",
        "no_chain": "define the Layer in a file, with a plain function as its forward",
        "dry_run": "run without --dry-run to try it",
        "training_mode": "call model.eval() before inference",
        "random": "draw the random numbers outside and pass them in",
        "state": "hand the state on as an argument and a result",
        "effects": "move it out of forward, or into the caller",
        "mutates_inputs": "work on a copy of the input",
        "not_tried": "give more time with --budget",
        "user_hooks": "take the hooks off before inference",
        "crashed": "the reproduction script shows it alone; report it to Paddle",
        "not_isolated": "run the trials without other threads, or see --rerun",
    }
)


HOLDS_MORE = ", too much for the memory budget"
"""In the detail of an attempt that would have been chosen, had memory not been limited."""


def hint(reason: str) -> str:
    """What a user can do about it."""
    return HINTS[reason]
