"""A module run as it is, without a trace: no gradients of its weights, no random numbers drawn, no values checked."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from functools import partial

import torch
from torch import nn
from torch.distributions import Distribution


def frozen(module: nn.Module, instead: Mapping[int, nn.Module] | None = None) -> nn.Module:
    """Return a copy in evaluation mode that shares all tensors and needs no gradients of them.

    Parameters
    ----------
    module
        Module to copy.
    instead
        Modules that take the place of parts, by ``id`` of the part.
    """
    done: dict[int, nn.Module] = dict(instead or {})

    def twin(part: nn.Module) -> nn.Module:
        if id(part) not in done:
            done[id(part)] = other = object.__new__(type(part))
            other.__dict__.update(part.__dict__)
            # a copy of each: else what is hooked onto the twin would be run by the model
            hooks = (k for k, v in part.__dict__.items() if isinstance(v, dict) and "hooks" in k)
            other.__dict__.update({k: copy(part.__dict__[k]) for k in hooks})
            other.__dict__["_parameters"] = {
                k: None if v is None else nn.Parameter(v.detach(), requires_grad=False)
                for k, v in part._parameters.items()
            }
            other.__dict__["_buffers"] = dict(part._buffers)
            other.__dict__["training"] = False
            other.__dict__["_modules"] = {
                k: None if v is None else twin(v) for k, v in part._modules.items()
            }
        return done[id(part)]

    whole = twin(module)
    if (first := next(nn.Module.parameters(whole), None)) is not None:
        # scvi-tools asks every parameter for its device at each call; here one answers for all
        whole.__dict__["parameters"] = partial(iter, (first,))
    return whole


@contextmanager
def unmoved_random_state(device: torch.device) -> Iterator[None]:
    """Let what torch draws inside have no effect on what it draws outside."""
    generators = [torch.default_generator]
    if device.type == "cuda":
        generators.append(torch.cuda.default_generators[device.index or 0])
    states = [generator.get_state() for generator in generators]
    try:
        yield
    finally:
        for generator, state in zip(generators, states, strict=True):
            generator.set_state(state)


_CHECKS = threading.Lock()
_unchecked = 0  # how many threads evaluate models now
_default = True


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """Let distributions take their parameters as they are: each check would wait for the device."""
    global _unchecked, _default
    with _CHECKS:
        if _unchecked == 0:
            _default = Distribution._validate_args
            Distribution.set_default_validate_args(False)
        _unchecked += 1
    try:
        yield
    finally:
        with _CHECKS:
            _unchecked -= 1
            if _unchecked == 0:
                Distribution.set_default_validate_args(_default)
