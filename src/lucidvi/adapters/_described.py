"""What an adapter says of a model: the features it reads, its outputs, and what is explained."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pandas as pd
import torch
from torch import Tensor

Tensors = dict[str, Tensor]
OutputScale = Literal["share", "probability", "rate", "log1p", "value"]


@dataclass(frozen=True)
class Scale:
    """Describe how data become the values that are explained, and the input of the first layer.

    Values are ``log1p(log * data)``, or the data themselves if ``log`` is 0. Data of 0 have the
    value 0. The first layer reads the values plus a constant, or their standard scores if ``mean``
    and ``std`` are given.

    Parameters
    ----------
    log
        Factor inside the logarithm; 0 for data that are read as they are.
    mean, std
        Mean and standard deviation of each feature, shape ``(n_features,)``.
    limit
        Standard scores are clipped at this value.
    shift
        Constant that the first layer reads in addition.
    label
        Name of the scale, for an adapter that does not compute values by :meth:`of`.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import torch
    >>> scale = lv.adapters.Scale(log=1.0)
    >>> scale.back(scale.of(torch.tensor([0.0, 3.0])))
    tensor([0., 3.])
    """

    log: float = 0.0
    mean: Tensor | None = None
    std: Tensor | None = None
    limit: float = torch.inf
    shift: float = 0.0
    label: str = ""

    @property
    def name(self) -> str:
        """Name that is stored with a result."""
        if self.label or not self.log:
            return self.label or "as registered"
        return "log1p" if self.log == 1 else f"log1p of {self.log:g} times the data"

    def of(self, data: Tensor) -> Tensor:
        """Return the values of data."""
        if self.mean is not None:
            return self.clipped(data)
        return torch.log1p(self.log * data) if self.log else data

    def clipped(self, values: Tensor) -> Tensor:
        """Return values within the limit of the standard scores."""
        if self.mean is None or self.std is None:
            return values
        reach = self.limit * self.std
        return torch.minimum(torch.maximum(values, self.mean - reach), self.mean + reach)

    def back(self, values: Tensor) -> Tensor:
        """Return the data for some values."""
        return torch.expm1(values) / self.log if self.log else values

    def read(self, values: Tensor) -> Tensor:
        """Return the first layer's input for some values."""
        if self.mean is None or self.std is None:
            return values + self.shift
        return (values - self.mean) / self.std

    @property
    def slope(self) -> Tensor | float:
        """Change of the first layer's input per unit of the values."""
        return 1.0 if self.std is None else 1.0 / self.std


@dataclass(frozen=True)
class Input:
    """Describe features that a model reads and that can explain its outputs.

    Parameters
    ----------
    key
        Name of their data in a minibatch.
    features
        Names.
    kind
        ``"genes"``, ``"peaks"``, ``"proteins"`` or another word for the features.
    modality
        Modality of a MuData that holds them; ``None`` for an AnnData.
    scale
        Scale that turns data into values.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import pandas as pd
    >>> lv.adapters.Input("X", pd.Index(["CD8A", "MS4A1"])).kind
    'genes'
    """

    key: str
    features: pd.Index
    kind: str = "genes"
    modality: str | None = None
    scale: Scale = Scale()


@dataclass(frozen=True)
class Output:
    """Describe one kind of output of a model.

    Parameters
    ----------
    names
        Names of the single outputs.
    scale
        ``"share"`` of a cell's counts, ``"probability"``, ``"rate"`` (not negative), ``"log1p"`` of
        counts per 10,000, or ``"value"`` (any number).
    modality
        Modality of a MuData whose features the outputs are; ``None`` for an AnnData, or if the
        outputs are not features.
    to_counts
        For ``"log1p"``: counts per 10,000 given predictions and the position of an output; by
        default ``expm1`` of predictions clamped at 0.

    Examples
    --------
    >>> import lucidvi as lv
    >>> import pandas as pd
    >>> lv.adapters.Output(pd.Index(["CD8A", "MS4A1"]), "share").is_share
    True
    """

    names: pd.Index
    scale: OutputScale = "value"
    modality: str | None = None
    to_counts: Callable[[Tensor, int | Tensor], Tensor] | None = None

    @property
    def is_share(self) -> bool:
        """Whether the output is never negative, so that changes can be relative."""
        return self.scale in ("share", "probability", "rate")


@dataclass(frozen=True)
class Target:
    """Describe the target of an explanation: some outputs of one kind.

    Parameters
    ----------
    kind
        Kind of output.
    names, columns
        Names of the outputs, and their positions among all outputs of this kind.

    Examples
    --------
    >>> import lucidvi as lv
    >>> lv.adapters.Target("latent", ("0", "2"), (0, 2)).one(1).names
    ('2',)
    """

    kind: str
    names: tuple[str, ...]
    columns: tuple[int, ...]

    def one(self, i: int) -> "Target":
        """Return a target of one output."""
        return Target(self.kind, self.names[i : i + 1], self.columns[i : i + 1])
