"""Effects of sets in every group."""

import pandas as pd
from anndata import AnnData
from mudata import MuData

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.get._stored import CROSS_EFFECT, find, tidy


@checked
def cross_effect(
    data: AnnData | MuData, key: str = Key.CROSS_EFFECT, *, modality: str | None = None
) -> pd.DataFrame:
    """Return the change that each set causes in each group.

    Parameters
    ----------
    data
        AnnData or MuData with a result of :func:`lucidvi.explain.cross_effect`.
    key
        Name of the result.
    modality
        Modality of a MuData that holds the result; by default the one that holds ``key``.

    Returns
    -------
    One row per set, named ``gene | group``, and one column per group that the set is masked in.
    ``attrs["relative"]`` is true if changes are shares of the unchanged output. ``attrs["output"]``
    names the output.

    Raises
    ------
    KeyError
        If there is no such result under ``key``.
    TypeError
        If ``data`` is neither AnnData nor MuData.
    ValueError
        If several modalities hold ``key``.

    Examples
    --------
    >>> import lucidvi as lv
    >>> mdata = lv.datasets.redundant_enhancers(n_cells=300, n_genes=8, n_peaks=800, n_types=3)
    >>> lv.model.GRIDS.setup_mudata(mdata, labels_key="cell_type")
    >>> model = lv.model.GRIDS(mdata)
    >>> model.train(max_epochs=2, enable_progress_bar=False)
    >>> lv.explain.subset_perturbation(
    ...     model, "gene_0001", "cell_type", n_features=3, progress=False
    ... )
    >>> lv.explain.cross_effect(model)
    >>> lv.get.cross_effect(mdata).shape
    (3, 3)
    """
    result = find(data, key, CROSS_EFFECT, modality).value
    effects = tidy(result["effects"])
    names = effects["gene"].astype(str) + " | " + effects["group"].astype(str)
    groups = effects["in_group"].astype(str)
    table = effects.assign(name=names, in_group=groups).pivot(
        index="name", columns="in_group", values="effect"
    )
    table = table.loc[names.drop_duplicates(), groups.drop_duplicates()]
    table = table.rename_axis(index=None, columns=None)
    params = result["params"]
    table.attrs |= {"relative": bool(params["relative"]), "output": str(params["output"])}
    return table
