"""The effect of a set found for one group in all the others."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from lucidvi._keys import Key
from lucidvi.explain._evaluate_set import Evaluator
from lucidvi.explain._surrogate import explained_modality, make_surrogate


def cross_effect(
    model: BaseModelClass,
    *,
    mdata: MuData | AnnData | None = None,
    relative: bool | None = None,
    key: str = Key.SUBSET_PERTURBATION,
    modality: str | None = None,
) -> pd.DataFrame:
    """Change of a gene's expression in every group when the set found for one group is masked.

    Other targets than genes are treated in the same way.

    Parameters
    ----------
    model
        The model that :func:`subset_perturbation` explained.
    mdata
        Data with the result; by default those of the model.
    relative
        Divide by the unperturbed expression of the group. ``False`` gives the change itself, in normalised counts:
        easier to compare where some groups hardly express the gene. By default ``True``, but ``False`` for latent
        dimensions, which have no natural 0.
    key
        Name of the result.
    modality
        Modality that was explained, as in :func:`subset_perturbation`.

    Returns
    -------
    Table with one row per set, named ``gene | group``, and one column per group; test cells, on the
    scale that is reported (``expm1`` for expression).
    ``attrs["relative"]`` says which of the two it holds, ``attrs["output"]`` of what.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If there is no result under ``key``.
    ValueError
        If relative changes of latent dimensions are asked for.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800, n_types=3)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(model, "gene_0001", "cell_type", n_features=3)
    >>> lv.explain.cross_effect(model).shape
    (3, 3)
    """
    modality = explained_modality(model, modality)
    data = model.adata if mdata is None else mdata
    adata = data if modality is None else data[modality]
    if key not in adata.uns:
        raise KeyError(f"No result under {key!r}. Call lucidvi.explain.subset_perturbation first.")
    result = adata.uns[key]
    surrogate = make_surrogate(model, modality, str(result["params"].get("output", "expression")))
    relative = surrogate.scale.relative if relative is None else relative
    if relative and not surrogate.scale.relative:
        raise ValueError("Changes of latent dimensions have no natural unit. Pass relative=False.")
    labels = surrogate.groups(result["params"].get("groupby"))
    test_labels = labels.iloc[surrogate.test_cells]
    groups = sorted(test_labels.unique())
    replacement = 0.0 if result["params"]["direction"] == "down" else 1.0
    by_set = result["features"].groupby(["gene", "group"], sort=False, observed=True)["feature"]
    features = list(by_set)
    names = [f"{gene} | {group}" for (gene, group), _ in features]
    table = pd.DataFrame(np.nan, index=names, columns=groups)
    for group in groups:
        cells = surrogate.test_cells[(test_labels == group).to_numpy()]
        evaluators: dict[str, Evaluator] = {}
        for (gene, found_in), members in features:
            if gene not in evaluators:
                evaluators[gene] = Evaluator(
                    surrogate, cells, surrogate.targets.get_loc(gene), replacement
                )
            own = evaluators[gene]
            chosen = surrogate.features.get_indexer(members).tolist()
            change = own.delta(chosen)
            table.loc[f"{gene} | {found_in}", group] = own.relative(change) if relative else change
    table.attrs |= {"relative": relative, "output": surrogate.params.get("output", "expression")}
    return table
