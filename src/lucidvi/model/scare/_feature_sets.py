"""Feature sets: found in an AnnData object once, then kept in the registry of the model."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from anndata import AnnData
from scvi import REGISTRY_KEYS
from scvi.data import AnnDataManager
from scvi.data.fields import BaseAnnDataField

from lucidvi._logging import warn
from lucidvi._validation import check_obs_key, near
from lucidvi.model._matrix import matrix_of
from lucidvi.model.scare._options import FEATURE_SETS

PLACES = ("var", "varm", "layers", "obsm")
PER_CELL = ("layers", "obsm")
_ROWS = 10_000  # cells that are read at a time


def find_feature_sets(
    adata: AnnData, key: str | Sequence[str], labels_key: str | None
) -> dict[str, Any]:
    """Read and check the sets under a key.

    Returns
    -------
    ``place``
        Which of :data:`PLACES` holds them.
    ``key``
        The key, or a list of columns of ``.var``.
    ``genes``, ``names``
        Gene names and set names (for ``varm``: labels); no names for sets per cell.
    ``values``
        Whether a gene is in a set, shape ``(n_genes, n_sets)``; ``None`` for sets per cell.
    """
    if isinstance(key, str):
        place = _place(adata, key)
    elif isinstance(key, Sequence) and all(isinstance(k, str) for k in key):
        place, key = "var", list(key)
        _check_columns(adata, key)
    else:
        raise TypeError(
            f"feature_set_key={key!r} is of type {type(key).__name__}. Pass a name, or a list of columns of .var."
        )
    state = {"place": place, "key": key, "genes": adata.var_names.astype(str).to_numpy()}
    if place in PER_CELL:
        values = _per_cell(adata, place, cast("str", key))
        if values.sum() == 0:
            raise ValueError(f".{place}[{key!r}] is 0 throughout. Mark each cell's genes with 1.")
        return state | {"names": np.array([], dtype=str), "values": None}
    table = _table(adata, place, key)
    names = table.columns.astype(str)
    if not names.is_unique:
        twice = names[names.duplicated()][0]
        raise ValueError(
            f"{twice!r} occurs more than once in feature_set_key={key!r}. Name each set once."
        )
    where = f".{place}" if place == "var" else f".varm[{key!r}]"
    values = [
        binary(table.iloc[:, i], f"Column {name!r} of {where}") for i, name in enumerate(names)
    ]
    for name, column in zip(names, values, strict=True):
        _check_size(column, f"Feature set {name!r} of {where}")
    if place == "varm":
        _check_labels(adata, cast("str", key), names, labels_key)
    return state | {"names": names.to_numpy(), "values": np.column_stack(values)}


def with_feature_sets(registry: dict, table: pd.DataFrame) -> dict:
    """Return a registry, such as that of a data module, that holds the sets of a table too."""
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"feature_sets is of type {type(table).__name__}. Pass a DataFrame, genes x sets.")  # fmt: skip
    fields = registry["field_registries"]
    genes = pd.Index(np.asarray(fields[REGISTRY_KEYS.X_KEY]["state_registry"]["column_names"]).astype(str))  # fmt: skip
    table = table.set_axis(table.index.astype(str), axis=0)
    if len(table) != len(genes) or set(table.index) != set(genes):
        missing = genes.difference(table.index)
        named = f", among them {missing[0]!r}, which feature_sets lacks" if len(missing) else ""
        raise ValueError(f"feature_sets has {len(table)} genes, but the data module has {len(genes)}{named}. Give one row for each of them.")  # fmt: skip
    shell = AnnData(obs=pd.DataFrame(index=[]), var=table.loc[genes])
    field = FeatureSetField(find_feature_sets(shell, list(table.columns), None))
    entry = {"data_registry": {}, "state_registry": field.state, "summary_stats": field.get_summary_stats(field.state)}  # fmt: skip
    return registry | {"field_registries": fields | {FEATURE_SETS: entry}}


def registered_sets(registry: dict) -> dict | None:
    """What the registry of a model holds about feature sets, as :func:`find_feature_sets` returned it."""
    return registry["field_registries"].get(FEATURE_SETS, {}).get("state_registry")


def check_blocks(state: dict | None, n_components: int, gene_likelihood: str) -> None:
    """Require sets that can have dimensions of their own: large enough, not the same, not one per cell."""
    if state is None:
        return
    other = "or create SCARE(adata, steering='attribution')."
    if gene_likelihood not in ("zinb", "nb", "poisson"):
        raise ValueError(f"steering='block' needs counts, but gene_likelihood={gene_likelihood!r}. Give counts, {other}")  # fmt: skip
    if state["values"] is None:
        raise ValueError(f"steering='block' cannot use a set for every cell. Give sets in .var or .varm, {other}")  # fmt: skip
    names, values = [str(n) for n in state["names"]], np.asarray(state["values"])
    shown = names if state["place"] == "var" else [str(state["key"])]
    for name in shown:
        if name in ("free", "joint") or name.removesuffix("_sd") in set(shown) - {name}:
            raise ValueError(f"A feature set cannot be called {name!r}: 'free' and 'joint' are parts of the latent space, and the uncertainty of a set's score is called as the set with '_sd'. Rename it.")  # fmt: skip
    for name, size in zip(names, values.sum(0).tolist(), strict=True):
        if size < n_components or size < 2:
            raise ValueError(f"Feature set {name!r} has {size} gene{'s' * (size != 1)}, fewer than its {max(n_components, 2)} dimensions. Give larger sets, a smaller n_components (a set needs two genes at least), {other}")  # fmt: skip
    if state["place"] != "var":
        return
    for i, first in enumerate(names):
        for k in range(i + 1, len(names)):
            if (values[:, i] == values[:, k]).all():
                raise ValueError(f"Feature sets {first!r} and {names[k]!r} have the same genes. Leave one out.")  # fmt: skip


def check_varying(manager: AnnDataManager, sets: pd.DataFrame) -> None:
    """Require that genes of each set vary between the cells of an object; see :func:`refuse_constant_sets`."""
    x = matrix_of(manager, REGISTRY_KEYS.X_KEY)
    low, high = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    for start in range(0, x.shape[0], _ROWS):
        part = x[start : start + _ROWS]
        part = part if sp.issparse(part) else np.asarray(part)
        bounds = [sp.csr_matrix(bound).toarray().ravel() for bound in (part.min(0), part.max(0))]
        low, high = np.minimum(low, bounds[0]), np.maximum(high, bounds[1])
    refuse_constant_sets(high > low, sets)


def refuse_constant_sets(varies: np.ndarray, sets: pd.DataFrame) -> None:
    """Require that genes of each set vary between the cells; say how many do not."""
    for name in sets:
        own = sets[name].to_numpy()
        if own.any() and not varies[own].any():
            raise ValueError(f"None of the {own.sum()} genes of feature set {name!r} varies between the cells. Leave the set out, or give genes that do.")  # fmt: skip
        if n := int((~varies[own]).sum()):
            warn("%d of %d genes of feature set %r do not vary between the cells.", n, own.sum(), name)  # fmt: skip


def binary(values: object, what: str) -> np.ndarray:
    """Require booleans, or the numbers 0 and 1."""
    values = np.asarray(values)
    if values.dtype == object and all(isinstance(v, bool | np.bool_) for v in values.flat):
        values = values.astype(bool)
    if values.dtype.kind not in "biuf" or not np.isin(values, (0, 1)).all():
        missing = pd.isna(values)
        given = "NaN" if missing.any() else f"values such as {_first_other(values)!r}"
        raise ValueError(f"{what} holds {given}. Only True and False, or 1 and 0, are allowed.")
    return values.astype(bool)


def _first_other(values: np.ndarray) -> object:
    return next(v for v in values.ravel().tolist() if not isinstance(v, bool) and v not in (0, 1))


def _place(adata: AnnData, key: str) -> str:
    places = {place: getattr(adata, place, None) for place in PLACES}  # a collection lacks some
    found = [place for place, held in places.items() if held is not None and key in held.keys()]
    if not found:
        known = {str(k) for held in places.values() if held is not None for k in held.keys() if k is not None}  # fmt: skip
        raise KeyError(
            f"feature_set_key={key!r} is in none of .var, .varm, .layers and .obsm. {near(key, sorted(known))}"
        )
    if len(found) > 1:
        where = " and ".join(f".{place}" for place in found)
        raise ValueError(f"feature_set_key={key!r} is in {where}. Rename or delete one of them.")
    return found[0]


def _check_columns(adata: AnnData, keys: list[str]) -> None:
    if not keys:
        raise ValueError("feature_set_key=[] is empty. Name at least one column of .var.")
    for key in keys:
        if key not in adata.var:
            raise KeyError(
                f"{key!r} of feature_set_key is not a column of .var. {near(key, adata.var)}"
            )


def _table(adata: AnnData, place: str, key: str | list[str]) -> pd.DataFrame:
    if place == "var":
        return adata.var[[key] if isinstance(key, str) else key]
    table = adata.varm[cast("str", key)]
    if not isinstance(table, pd.DataFrame):
        raise TypeError(
            f".varm[{key!r}] is of type {type(table).__name__}. Pass a DataFrame, genes x labels."
        )
    return table


def _check_size(column: np.ndarray, what: str) -> None:
    if not column.any():
        raise ValueError(f"{what} is empty: no gene is True. Give at least one gene of the data.")
    if column.all():
        raise ValueError(f"{what} holds all {len(column)} genes. Leave out at least one gene.")


def _check_labels(adata: AnnData, key: str, names: pd.Index, labels_key: str | None) -> None:
    if labels_key is None:
        raise ValueError(
            f".varm[{key!r}] has one set per label, but there are no labels. Pass labels_key."
        )
    check_obs_key(adata.obs, labels_key, "labels_key")
    labels = pd.unique(cast("pd.DataFrame", adata.obs)[labels_key].dropna().astype(str))
    for label in labels:
        if label not in names:
            raise ValueError(
                f".varm[{key!r}] has no column for label {label!r} of {labels_key!r}. {near(label, names)} "
                "Give every label a column."
            )


def _per_cell(adata: AnnData, place: str, key: str) -> sp.spmatrix | np.ndarray:
    table = getattr(adata, place).get(key)
    what = f".{place}[{key!r}]"
    if table is None:
        raise KeyError(
            f"{what}, the feature sets of the cells, is missing. Add it, cells x genes, to the data. "
            f"{near(key, getattr(adata, place))}"
        )
    if isinstance(table, pd.DataFrame) and not np.array_equal(
        table.columns.astype(str), adata.var_names.astype(str)
    ):
        raise ValueError(f"The columns of {what} must be the genes, in the order of .var_names.")
    if table.shape != adata.shape:
        raise ValueError(
            f"{what} has shape {table.shape}, but needs one row per cell and one column per gene: {adata.shape}."
        )
    values = table if sp.issparse(table) else np.asarray(table)
    binary(values.data if sp.issparse(values) else values, what)
    return values


class FeatureSetField(BaseAnnDataField):
    """Feature sets in the registry, or, where each cell has its own, in every minibatch.

    Sets of ``.var`` and ``.varm`` are kept by value: data that a trained model reads later need not hold them.

    Parameters
    ----------
    state
        As :func:`find_feature_sets` returns it.
    """

    def __init__(self, state: dict[str, Any]):
        super().__init__()
        self.state = state

    @property
    def registry_key(self) -> str:
        """Name in the registry and in minibatches."""
        return FEATURE_SETS

    @property
    def attr_name(self) -> str:
        """Where the sets were found."""
        return str(self.state["place"])

    @property
    def attr_key(self) -> str | None:
        """Key of sets per cell."""
        return self.state["key"] if self.attr_name in PER_CELL else None

    @property
    def is_empty(self) -> bool:
        """Never: without sets there is no field."""
        return False

    def get_data_registry(self) -> dict:
        """What a minibatch holds: only sets per cell."""
        return super().get_data_registry() if self.attr_name in PER_CELL else {}

    def validate_field(self, adata: AnnData) -> None:
        """Require the genes of the sets, in the same order."""
        genes, given = self.state["genes"], adata.var_names.astype(str).to_numpy()
        if not np.array_equal(genes, given):
            same = len(genes) == len(given) and set(genes) == set(given)
            raise ValueError(
                f"The data have {'the genes of the feature sets in another order' if same else 'other genes than the feature sets'}. "
                "Bring them in line: adata = adata[:, genes].copy(), or SCARE.prepare_query_anndata."
            )
        if self.attr_name in PER_CELL:
            _per_cell(adata, self.attr_name, self.state["key"])

    def register_field(self, adata: AnnData) -> dict:
        """Check the data; the state are the sets."""
        super().register_field(adata)
        return dict(self.state)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs) -> dict:
        """Check new data; the sets stay those of the model."""
        return self.register_field(adata_target)

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Number of sets."""
        return {"n_feature_sets": len(state_registry["names"])}

    def view_state_registry(self, state_registry: dict) -> None:
        """Nothing to show."""
