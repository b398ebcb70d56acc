"""Files of models: read without running what they hold, and replaced only when the new one is whole."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.serialization import get_unsafe_globals_in_checkpoint

# What scvi-tools' registries and our attributes are made of, beside what PyTorch itself allows.
_NUMPY = ("dtype", "ndarray", "_core.multiarray._reconstruct", "_core.multiarray.scalar", "core.multiarray._reconstruct", "core.multiarray.scalar", "bool", "bool_", "str_")  # fmt: skip
_PANDAS = (
    "Index", "RangeIndex", "MultiIndex", "DataFrame", "Series", "Categorical", "CategoricalDtype", "StringDtype", "BooleanDtype",
    "arrays.StringArray", "arrays.ArrowStringArray", "core.indexes.base._new_Index", "core.indexes.base.Index",
    "core.indexes.range.RangeIndex", "core.frame.DataFrame", "core.series.Series", "core.internals.managers.BlockManager",
    "core.internals.managers.SingleBlockManager", "core.arrays.categorical.Categorical", "core.dtypes.dtypes.CategoricalDtype",
    "core.arrays.string_.StringArray", "core.arrays.string_.StringDtype", "core.arrays.boolean.BooleanArray",
    "core.arrays.boolean.BooleanDtype", "_libs.arrays.__pyx_unpickle_NDArrayBacked", "_libs.internals._unpickle_block",
)  # fmt: skip
_BUILTINS = (
    "bytes",
    "bytearray",
    "complex",
    "dict",
    "frozenset",
    "list",
    "range",
    "set",
    "slice",
    "tuple",
)
_HARMLESS = {
    *(f"numpy.{name}" for name in _NUMPY), *(f"pandas.{name}" for name in _PANDAS), *(f"builtins.{name}" for name in _BUILTINS),
    "collections.defaultdict", "collections.OrderedDict", "_codecs.encode", "pathlib.PosixPath", "pathlib.WindowsPath",
}  # fmt: skip

_FAMILIES = ("numpy.dtypes.", "torch.distributions.constraints.")


def model_file(folder: str | os.PathLike, prefix: str | None = None) -> Path:
    """Return where scvi-tools keeps a model."""
    return Path(folder) / f"{prefix or ''}model.pt"


def text_of_path(reference: Any) -> Any:
    """Return a path as text, as scvi-tools wants it; anything else as it is."""
    return os.fspath(reference) if isinstance(reference, os.PathLike) else reference


def check_harmless(file: Path) -> None:
    """Require a file that holds data and nothing that runs when it is read."""
    try:
        found = get_unsafe_globals_in_checkpoint(file)
    except Exception as error:  # whatever a damaged file makes PyTorch say
        raise ValueError(f"{file} cannot be read as a model: it is damaged or of another kind.") from error  # fmt: skip
    unknown = [name for name in found if name not in _HARMLESS and not name.startswith(_FAMILIES)]
    if unknown:
        raise ValueError(
            f"{file} holds {', '.join(map(repr, unknown[:3]))}, which could run code when the file is read. If you made the file "
            "yourself, allow it with torch.serialization.add_safe_globals([...]) first."
        )


def save_whole(save: Callable[..., Any], folder: str, overwrite: bool, **options: Any) -> None:
    """Save a model; one that is there already is replaced when the new one is complete."""
    if not (overwrite and Path(folder).is_dir()):
        save(folder, overwrite=overwrite, **options)
        return
    with tempfile.TemporaryDirectory(dir=Path(folder).parent) as part:
        save(part, overwrite=True, **options)
        for file in Path(part).iterdir():
            os.replace(file, Path(folder) / file.name)


def read(file: Path) -> dict:
    """Return the content of a model's file without its weights in memory."""
    check_harmless(file)
    return torch.load(file, map_location="cpu", mmap=True, weights_only=False)
