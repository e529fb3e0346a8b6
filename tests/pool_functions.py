"""What worker processes of the pool's test import: as little as possible."""

from __future__ import annotations

import os
import time


def square(number: int) -> int:
    """Later ones are ready first; 5 takes its process down."""
    time.sleep(0.01 * (number % 3))
    if number == 5:
        os._exit(1)
    return number * number


def make_square():
    return square
