"""``adata.lv`` and ``mdata.lv``, registered without importing anndata, which takes longer than lucidvi may."""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType


def register() -> None:
    """Add ``.lv`` to AnnData and MuData: now where their package is imported, else as soon as it is."""
    for package in ("anndata", "mudata"):
        if package in sys.modules:
            _add(package)
        else:
            sys.meta_path.insert(0, _After(package))


def _add(package: str) -> None:
    import_module(f"lucidvi._accessors._{package}")


class _After(MetaPathFinder):
    """Finds nothing itself. It sees that a package is imported, and adds the accessor afterwards."""

    def __init__(self, package: str):
        self.package = package

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None) -> ModuleSpec | None:  # fmt: skip
        """Return the spec that other finders give, with the registration at its end."""
        if name != self.package:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_add(module: ModuleType) -> None:
            execute(module)
            _add(name)

        spec.loader.exec_module = execute_and_add  # type: ignore[method-assign]
        return spec
