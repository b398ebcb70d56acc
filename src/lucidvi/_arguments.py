"""Arguments of public functions, checked by their annotations before any work starts."""

import inspect
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from numbers import Integral, Real
from typing import Any, Literal, TypeAliasType, Union, get_args, get_origin

import numpy as np

from lucidvi._validation import check_integer

_NAMES = {bool: "True or False", int: "an integer", float: "a number", str: "text", types.NoneType: "None"}  # fmt: skip


def checked[**P, R](function: Callable[P, R]) -> Callable[P, R]:
    """Let a function refuse arguments that are not of the annotated kind; what values are allowed is its own affair.

    Numbers of numpy are handed on as those of Python, which others than numpy understand as well. A reference of
    ``anndata.acc``, such as ``A.obs["cell_type"]`` or ``A.obsm["X_umap"]``, is handed on as the name in it.

    Examples
    --------
    >>> from lucidvi._arguments import checked
    >>> @checked
    ... def half(n: int) -> int:
    ...     return n // 2
    >>> half("ten")
    Traceback (most recent call last):
    ...
    TypeError: n='ten' is of type str. Pass an integer.
    """
    signature = inspect.signature(function)
    hints = {
        name: p.annotation
        for name, p in signature.parameters.items()
        if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # too many, too few, unknown: Python says it best
            return function(*args, **kwargs)
        for name, value in bound.arguments.items():
            value = bound.arguments[name] = _named(value)
            if name in hints:
                _check(name, value, hints[name])
            if isinstance(value, np.generic):
                bound.arguments[name] = value.item()
        return function(*bound.args, **bound.kwargs)

    return call


def _named(value: Any) -> Any:
    """Return the name of a column or entry that a reference of anndata names, and other values as they are."""
    if isinstance(value, list | tuple) and any(map(_is_reference, value)):
        return [_named(part) for part in value]
    if not _is_reference(value):
        return value
    if isinstance(name := getattr(value, "k", None), str):  # an entry of obsm, varm or layers
        return name
    name = getattr(value, "idx", None)
    if not isinstance(name, str) or type(value.acc).__name__ != "MetaAcc":  # that of obs and var
        raise TypeError(f"{value!r} refers to numbers. Pass a column such as A.obs['cell_type'], an entry such as A.obsm['X_umap'], or its name.")  # fmt: skip
    return name


def _is_reference(value: object) -> bool:
    return type(value).__module__ == "anndata.acc"


def _check(name: str, value: object, hint: Any) -> None:
    if not _fits(value, hint):
        raise TypeError(f"{name}={reprlib.repr(value)} is of type {type(value).__name__}. Pass {_readable(hint)}.")  # fmt: skip
    if name == "seed" and value is not None:
        check_integer(value, 0, name)


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of an annotated kind; tables, arrays and other objects are left to the function."""
    if isinstance(hint, TypeAliasType):
        return _fits(value, hint.__value__)
    origin, args = get_origin(hint), get_args(hint)
    if origin is Callable:
        if not callable(value) or inspect.isclass(value):
            return False
        return args[0] is Ellipsis or _takes(value, len(args[0]))
    if origin in (Union, types.UnionType):
        # one of several names may be a number, as groups and dimensions are
        names = any(_are_names(part) for part in args)
        return any(_fits(value, part) for part in args) or (names and _is_name(value))
    if hint is types.NoneType:
        return value is None
    if origin is Literal:
        return any(isinstance(value, type(option)) for option in args)
    if hint is str:
        return isinstance(value, str)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if hint in (int, float):
        return isinstance(value, Integral if hint is int else Real) and not isinstance(value, bool)
    if _are_names(hint):
        if not isinstance(value, Iterable) or isinstance(value, str | bytes | Mapping):
            return False
        if getattr(value, "ndim", 1) != 1:
            return False
        known = isinstance(value, list | tuple | np.ndarray) or hasattr(value, "to_numpy")
        return not known or all(map(_is_name, value))
    if origin in (Sequence, Iterable):
        return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)
    if origin is tuple and Ellipsis not in args:
        fits = lambda part, hint: _is_name(part) if hint is str else _fits(part, hint)
        return isinstance(value, tuple | list) and len(value) == len(args) and all(map(fits, value, args))  # fmt: skip
    if inspect.isclass(hint) and hint.__module__.startswith("matplotlib"):
        return isinstance(value, hint)
    return True


def _takes(function: Callable, n: int) -> bool:
    """Whether a function can be called with n arguments; functions that are not written in Python cannot be asked."""
    try:
        inspect.signature(function).bind(*range(n))
    except TypeError:
        return False
    except ValueError:
        pass
    return True


def _are_names(hint: Any) -> bool:
    return get_origin(hint) in (Sequence, Iterable) and get_args(hint) == (str,)


def _is_name(value: object) -> bool:
    return isinstance(value, str | Integral | np.bool_)


def _readable(hint: Any) -> str:
    """Say what fits."""
    if isinstance(hint, TypeAliasType):
        return _readable(hint.__value__)
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        parts = list(dict.fromkeys(map(_readable, args)))
        return f"{', '.join(parts[:-1])} or {parts[-1]}" if len(parts) > 1 else parts[0]
    if origin is Literal:
        return ", ".join(map(repr, args))
    if _are_names(hint):
        return "a list of names"
    if origin in (Sequence, Iterable):
        return "a list"
    if origin is tuple:
        return f"{len(args)} values"
    if origin is Callable:
        n = 0 if args[0] is Ellipsis else len(args[0])
        return f"a function of {n} argument{'s' if n > 1 else ''}" if n else "a function"
    name = getattr(hint, "__name__", str(hint)).removeprefix("typing.")
    return _NAMES.get(hint, f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}")
