"""The effect of a set found for one group in all the others."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._subset_tables import check_subset_tables
from lucidvi.adapters import adapter
from lucidvi.explain._cells import chosen_groups, labels_of_cells, members
from lucidvi.explain._results import Place, check_origin, numbered, positions, read
from lucidvi.explain.subset._population import Population
from lucidvi.explain.subset._report import Evaluator


@checked
def cross_effect(
    model: BaseModelClass,
    *,
    relative: bool | None = None,
    modality: str | None = None,
    adata: AnnData | MuData | None = None,
    key: str = Key.SUBSET_PERTURBATION,
    key_added: str = Key.CROSS_EFFECT,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Mask the set found for one group in the cells of every group.

    Other targets than genes are treated in the same way.

    Parameters
    ----------
    model
        The model that :func:`subset_perturbation` explained.
    relative
        Divide changes by the unperturbed expression of the group. ``False`` gives the change itself, in normalised counts:
        easier to compare where some groups hardly express the gene. By default ``True``, but ``False`` for outputs that
        can be negative, such as latent dimensions.
    modality
        Modality that was explained, as in :func:`subset_perturbation`.
    adata
        Data with the result instead of the model's data.
    key
        Name of the result of :func:`subset_perturbation`.
    key_added
        Name of this result.
    copy
        Return a changed copy of the data instead of writing into them.

    Returns
    -------
    ``None``, or the changed copy. Written to the modality whose features are masked:

    ``.uns[key_added]["effects"]``
        One row per set and group: ``gene`` and ``group`` that the set was found for, ``in_group`` it is masked in, and
        ``effect`` on the mean over the test cells of that group, on the scale that is reported (``expm1`` for
        expression); ``NaN`` where the group has no test cells.
    ``.uns[key_added]["params"]``
        ``relative``, ``output`` and the ``key`` of the sets.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If there is no result under ``key``.
    ValueError
        If relative changes are asked for of outputs that can be negative, or a stored feature or target is not in the data.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800, n_types=3)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", "cell_type", n_features=3)
    >>> lv.explain.cross_effect(model)
    >>> mdata["atac"].uns["cross_effect"]["effects"].shape
    (9, 4)
    """
    function = adapter(model, adata, modality=modality, prefer="peaks")
    store = function.store(function.data)
    result = read(store, key, ("params", "sets", "features"), "subset perturbation", "subset_perturbation")  # fmt: skip
    check_subset_tables(result, key)
    params = result["params"]
    labels = labels_of_cells(function, params.get("groupby"))
    check_origin(result, key, function, labels)
    place = Place(function, key_added, "cross_effect", labels, copy=copy)
    population = Population(function, str(params["output"]))
    relative = population.relative if relative is None else relative
    if relative and not population.relative:
        raise ValueError(f"Changes of {population.kind} outputs have no natural unit. Pass relative=False.")  # fmt: skip
    replacement = 0.0 if params["direction"] == "down" else 1.0
    sets = list(result["features"].groupby(["gene", "group"], sort=False, observed=True)["feature"])
    columns = _columns(population, sets)
    chosen = [positions(of_set, store) for _, of_set in sets]
    of_model = pd.Index(population.features).get_indexer(store.var_names)
    rows = []
    for group in chosen_groups(labels, None):
        cells = np.intersect1d(members(labels, group), function.held_out_cells)
        evaluators: dict[int, Evaluator] = {}
        for ((gene, found_in), _), column, at in zip(sets, columns, chosen, strict=True):
            effect = np.nan
            if len(cells):
                if column not in evaluators:
                    evaluators[column] = Evaluator(population, cells, column, replacement)
                change = evaluators[column].delta(of_model[at].tolist())
                effect = evaluators[column].relative(change) if relative else change
            rows.append({"gene": gene, "group": found_in, "in_group": group, "effect": effect})
    params = {"relative": bool(relative), "output": population.kind, "key": key}
    place.write({"params": params, "effects": numbered(pd.DataFrame(rows))})
    return place.returned


def _columns(population: Population, sets: list) -> list[int]:
    """Return the output that each set was found for."""
    found = population.targets.get_indexer([gene for (gene, _), _ in sets])
    if (found < 0).any():
        lost = [gene for ((gene, _), _), at in zip(sets, found, strict=True) if at < 0]
        raise ValueError(
            f"Target {lost[0]!r} of the stored sets is not an output of this model. Explain it again with subset_perturbation."
        )
    return found.tolist()
