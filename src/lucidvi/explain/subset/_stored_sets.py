"""Sets that a subset perturbation has stored, opened for those who evaluate them again."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from lucidvi._subset_tables import check_subset_tables
from lucidvi.adapters import Adapter, adapter
from lucidvi.algorithms._subset_problem import Replacement
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain._results import Place, check_origin, read
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._replacement import stored_replacement


@dataclass
class StoredSet:
    """One set: the table of its members by rank, their positions among the model's features, and its output."""

    gene: str
    group: str
    members: pd.DataFrame
    features: np.ndarray
    column: int


@dataclass
class StoredSets:
    """Sets, the model they were found in, and the groups of its cells."""

    function: Adapter
    params: dict
    labels: pd.Series
    """Group of each cell; missing for those that no set was reported on."""
    units: np.ndarray
    """Donor or batch of each cell."""
    place: Place
    population: Population
    replacement: Replacement
    sets: list[StoredSet]


def open_sets(
    model: BaseModelClass, adata: AnnData | MuData | None, modality: str | None, key: str, key_added: str, made_by: str, copy: bool,
) -> StoredSets:  # fmt: skip
    """Open a stored result, checked to be of this model and these groups of cells."""
    function = adapter(model, adata, modality=modality, prefer="peaks")
    result = read(function.store(function.data), key, ("params", "sets", "features"), "subset perturbation", "subset_perturbation")  # fmt: skip
    check_subset_tables(result, key)
    params = result["params"]
    labels = labels_of_cells(function, params.get("groupby"))
    check_origin(result, key, function, labels)
    donors = None
    if "condition_key" in params:  # sets act in the cells of one condition
        conditions = labels_of_cells(function, _column(params["condition_key"]), "condition_key")
        labels = labels.where(conditions == params["contrast"])
    if "donor_key" in params:
        donors = labels_of_cells(function, _column(params["donor_key"]), "donor_key")
        labels = labels.where(donors.notna())
    place = Place(function, key_added, made_by, labels, copy=copy)
    population = Population(function, str(params["output"]))
    table = result["features"].sort_values("rank", kind="stable")
    known = [name in population.targets for name in table["gene"]]
    at = population.features.get_indexer(table["feature"])
    if not all(known) or (at < 0).any():
        lost = table["gene"][~np.array(known)] if not all(known) else table["feature"][at < 0]
        what = "Feature" if all(known) else "Target"
        raise ValueError(f"{what} {lost.iloc[0]!r} of the stored sets is not one of this model. Explain it again with subset_perturbation.")  # fmt: skip
    replacement = stored_replacement(params, table, function)
    sets = [
        StoredSet(gene, group, members, population.features.get_indexer(members["feature"]), int(population.targets.get_loc(gene)))
        for (gene, group), members in table.groupby(["gene", "group"], sort=False, observed=True)
    ]  # fmt: skip
    units = np.asarray(function.batch_of_cells()) if donors is None else donors.to_numpy(object)
    return StoredSets(function, params, labels, units, place, population, replacement, sets)


def _column(stored: str) -> str:
    """Return the column of a stored grouping, which is followed by a digest."""
    return str(stored).rsplit(", ", 1)[0]
