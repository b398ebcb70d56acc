"""What the subset search needs of a model: an affine first operation and a differentiable rest."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from torch import Tensor

from lucidvi._validation import check_obs_key, obs_column
from lucidvi.algorithms._affine import AffineMap
from lucidvi.algorithms._subset_problem import CellLoss, SubsetProblem


@dataclass(frozen=True)
class Scale:
    """How the output that is searched becomes the one that is reported.

    Parameters
    ----------
    name
        ``"expm1"``: counts per 10,000 from their logarithm; ``"identity"``: the output itself.
    relative
        Whether it is never negative, so that a change can be divided by the value before.
    """

    name: str
    relative: bool = True

    @property
    def is_logarithm(self) -> bool:
        """Whether the search sees a logarithm."""
        return self.name == "expm1"

    def of_array(self, values: np.ndarray) -> np.ndarray:
        """Reported values."""
        return np.expm1(np.maximum(values, 0.0)) if self.is_logarithm else values

    def of_tensor(self, values: Tensor) -> Tensor:
        """The same for tensors."""
        return torch.expm1(values.clamp_min(0.0)) if self.is_logarithm else values


class Surrogate(ABC):
    """Outputs of a model as functions of an affine map of what it reads of one modality.

    Attributes
    ----------
    modality, target_modality
        Modality whose features are replaced, and the one that holds the targets; ``None`` for an AnnData, or where
        targets belong to no modality.
    features, targets, cells
        Names.
    train_cells, test_cells
        Positions of the cells to search and to report on.
    output
        Kind of output, as in :func:`lucidvi.explain.attributions`.
    scale
        Scale of the reported values.
    feature_kind
        ``"peaks"``, ``"genes"`` or another word for the features.
    has_cis
        Whether predictions have a part that is due to a gene's own neighbourhood.
    max_rows
        Cells that may be evaluated at a time.
    split_hint
        How to train so that cells are left to report on.
    """

    modality: str | None
    target_modality: str | None
    features: pd.Index
    targets: pd.Index
    cells: pd.Index
    train_cells: np.ndarray
    test_cells: np.ndarray
    output: str = "expression"
    scale: Scale = Scale("expm1")
    feature_kind: str = "peaks"
    has_cis: bool = True
    max_rows: int = 2**31
    split_hint: str
    _data_object: AnnData | MuData

    def __getstate__(self) -> dict:
        # joblib's workers need no annotation, and an AnnData does not survive pickling
        return self.__dict__ | {"_data_object": None}

    @property
    def params(self) -> dict[str, str]:
        """What is explained, as it is stored."""
        known = {"modality": self.modality, "target_modality": self.target_modality}
        return {k: v for k, v in known.items() if v is not None} | {"scale": self.scale.name}

    def groups(self, groupby: str | None) -> pd.Series:
        """Group of every cell of the explained modality."""
        if groupby is None:
            return pd.Series("all", index=self.cells)
        data = self._data_object
        if isinstance(data, MuData):
            both = [m for m in (self.modality, self.target_modality) if m is not None]
            column = obs_column(data, groupby, both, "groupby")
        else:
            check_obs_key(data.obs, groupby, "groupby")
            column = obs_column(data, groupby, (), "groupby")
        return column.loc[self.cells].astype(str)

    def explained(self, data: AnnData | MuData) -> AnnData:
        """The part of the data that holds the features and gets the results."""
        return data if self.modality is None else data[self.modality]

    def genes(self, data: AnnData | MuData) -> AnnData | None:
        """The part of the data that holds the targets, if they are genes."""
        if self.output != "expression":
            return None
        return data if self.target_modality is None else data[self.target_modality]

    def problem(
        self, x: sp.csr_matrix, affine: AffineMap, loss: CellLoss, *, replacement: float, allowed: np.ndarray | None = None,
    ) -> SubsetProblem:  # fmt: skip
        """A population as a problem of the search, evaluated in parts that fit into memory."""
        problem = SubsetProblem(x, affine, loss, replacement=replacement, allowed=allowed)
        problem.max_rows = min(problem.max_rows, self.max_rows)
        return problem

    @abstractmethod
    def check_direction(self, direction: str) -> None:
        """Refuse a direction that has no meaning for the features."""

    @abstractmethod
    def input(self, cells: np.ndarray) -> sp.csr_matrix:
        """Values of the features of cells."""

    @abstractmethod
    def observed(self, cells: np.ndarray, target: int) -> np.ndarray | None:
        """What was measured of the target in the same cells, if it was, and if the model did not read it."""

    @abstractmethod
    def affine(self, target: int | None = None) -> AffineMap:
        """First operation, with what all targets need or what one needs."""

    @abstractmethod
    def parts(
        self, cells: np.ndarray, target: int
    ) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Latent and cis part of one target, as a function of ``affine(target)``'s image."""

    @abstractmethod
    def expression(self, cells: np.ndarray) -> Callable[[Tensor, Tensor], Tensor]:
        """All targets, not clamped, as a function of ``affine()``'s image."""

    @abstractmethod
    def loss(
        self, cells: np.ndarray, target: int, *, sign: float, beta: float, h: Tensor
    ) -> Callable[[Tensor, Tensor], Tensor]:
        """Objective of the search: the target plus the squared change of all others.

        Parameters
        ----------
        cells
            The population.
        target
            Position of the target.
        sign
            1 to lower the target, -1 to raise it.
        beta
            Weight of the others.
        h
            Affine image of the unchanged population, ``(n_cells, n_columns)``.
        """
