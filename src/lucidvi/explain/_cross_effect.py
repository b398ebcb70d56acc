"""The effect of a set found for one group in all the others."""

import numpy as np
import pandas as pd
from mudata import MuData

from lucidvi._keys import Key
from lucidvi.explain._evaluate_set import Evaluator
from lucidvi.explain._surrogate import make_surrogate
from lucidvi.model import GRIDS


def cross_effect(
    model: GRIDS,
    *,
    mdata: MuData | None = None,
    relative: bool = True,
    key: str = Key.SUBSET_PERTURBATION,
) -> pd.DataFrame:
    """Change of a gene's expression in every group when the set found for one group is masked.

    Parameters
    ----------
    model
        The model that :func:`subset_perturbation` explained.
    mdata
        Data with the result; by default those of the model.
    relative
        Divide by the unperturbed expression of the group. ``False`` gives the change itself, in normalised counts:
        easier to compare where some groups hardly express the gene.
    key
        Name of the result.

    Returns
    -------
    Table with one row per set, named ``gene | group``, and one column per group; test cells, ``expm1`` scale.
    ``attrs["relative"]`` says which of the two it holds.

    Raises
    ------
    KeyError
        If there is no result under ``key``.

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
    surrogate = make_surrogate(model)
    adata = (model.adata if mdata is None else mdata)[surrogate.modality]
    if key not in adata.uns:
        raise KeyError(f"No result under {key!r}. Call lucidvi.explain.subset_perturbation first.")
    result = adata.uns[key]
    labels = surrogate.groups(result["params"].get("groupby"))
    test_labels = labels.iloc[surrogate.test_cells]
    groups = sorted(test_labels.unique())
    replacement = 0.0 if result["params"]["direction"] == "down" else 1.0
    features = result["features"].groupby(["gene", "group"], sort=False, observed=True)["feature"]
    table = pd.DataFrame(np.nan, index=[f"{g} | {c}" for g, c in features.groups], columns=groups)
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
            table.loc[f"{gene} | {found_in}", group] = (
                change / max(own.before, 1e-12) if relative else change
            )
    table.attrs["relative"] = relative
    return table
