"""Tables and plots of stored results, from the object that holds them."""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_NOT_BOUND = {"attribution_share", "fssf", "panel_curves"}  # plots of tables, not of data


class _Room:
    """The functions of :mod:`lucidvi.get` or :mod:`lucidvi.pl`, with their first argument given."""

    def __init__(self, name: str, data: Any):
        self._name, self._data = name, data

    def _module(self) -> ModuleType:
        return import_module(f"lucidvi.{self._name}")

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_") or name not in dir(self):
            raise AttributeError(
                f"lucidvi.{self._name} has no {name!r} of data. It has: {', '.join(dir(self))}."
            )
        function, data = getattr(self._module(), name), self._data

        @wraps(function)
        def bound(*given: Any, **options: Any) -> Any:
            return function(data, *given, **options)

        return bound

    def __dir__(self) -> list[str]:
        return [name for name in self._module().__all__ if name not in _NOT_BOUND]


class Accessor:
    """What both accessors offer."""

    _data: Any

    @property
    def get(self) -> _Room:
        """Tables: :mod:`lucidvi.get`."""
        return _Room("get", self._data)

    @property
    def pl(self) -> _Room:
        """Plots: :mod:`lucidvi.pl`."""
        return _Room("pl", self._data)

    def report(self, path: str | Path, *, title: str = "lucidvi report") -> Path:
        """Write a page of all results: :func:`lucidvi.report`."""
        from lucidvi import report  # here, since it needs the plots

        return report(self._data, path, title=title)
