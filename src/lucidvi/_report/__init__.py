"""One page of everything that lucidvi stored in an object."""

from lucidvi._report._report import report

__all__ = ["report"]
