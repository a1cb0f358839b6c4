"""Whether an exported program computes with small values only, for which oneDNN isn't worth what it takes.

At each operator of each run oneDNN looks for its primitive, and moves the operands into its own layouts and back: for
a few numbers that is most of the run. Measured on nine programs of values up to 2304 elements (lists of products,
dense, convolutional and attention layers): without it from as fast, within 3 %, to three times as fast.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

ELEMENTS = 1 << 12
"""What a value may have at most, parameters included."""

_SHAPE = re.compile(r'"0\.t_dtensor","D":\[\{[^}]*\},\[([-\d,]*)\]')
"""The type of a value in Paddle 3's program format, up to its shape."""


def is_small(program: Path) -> bool:
    """Whether each value in the program, a ``.json`` file of ``paddle.jit.save``, is small whatever the inputs are.

    Not where a size may vary, nor for a file that this can't read.
    """
    if program.suffix != ".json":
        return False
    found = False
    for each in _SHAPE.finditer(program.read_text()):
        sizes = [int(size) for size in each[1].split(",") if size]
        if min(sizes, default=0) < 0 or math.prod(sizes) > ELEMENTS:
            return False
        found = True
    return found
