"""The heap that runs of a model leave behind."""

import ctypes
import sys


def give_back_memory() -> None:
    """Loading a model and embedding many texts leave some ten megabytes each that glibc keeps for later. Blocks."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
