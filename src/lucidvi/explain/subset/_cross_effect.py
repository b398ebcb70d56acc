"""The effect of a set found for one group in all the others."""

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi.explain._cells import chosen_groups, members
from lucidvi.explain._results import numbered
from lucidvi.explain.subset._report import Evaluator
from lucidvi.explain.subset._stored_sets import open_sets


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
    """Mask the set found for one group in the cells of every group, and store the effects.

    Targets other than genes are treated in the same way.

    Parameters
    ----------
    model
        The model that :func:`subset_perturbation` explained.
    relative
        Divide changes by the unperturbed expression of the group. ``False`` gives the change
        itself, in normalised counts, which is easier to compare if some groups hardly express the
        gene. The default is ``True``, but ``False`` for outputs that can be negative, such as
        latent dimensions.
    modality
        Modality that was explained, as in :func:`subset_perturbation`.
    adata
        Data with the result instead of the model's data.
    key
        Name of the result of :func:`subset_perturbation`.
    key_added
        Name of this result.
    copy
        Return a changed copy of the data instead of changing the data in place.

    Returns
    -------
    ``None``, or the changed copy. The result is written to the modality whose features are masked:

    ``.uns[key_added]["effects"]``
        One row per set and group: ``gene`` and ``group`` for which the set was found, ``in_group``
        in which it is masked, and ``effect`` on the mean over the test cells of that group. The
        effect is on the reported scale (``expm1`` for expression), and ``NaN`` if the group has no
        test cells.
    ``.uns[key_added]["params"]``
        ``relative``, ``output`` and the ``key`` of the sets.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If there is no result under ``key``.
    ValueError
        If relative changes are requested for outputs that can be negative, or a stored feature or
        target is not in the data.

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
    stored = open_sets(model, adata, modality, key, key_added, "cross_effect", copy)
    population = stored.population
    relative = population.relative if relative is None else relative
    if relative and not population.relative:
        raise ValueError(f"Changes of {population.kind} outputs have no natural unit. Pass relative=False.")  # fmt: skip
    rows = []
    for group in chosen_groups(stored.labels, None):
        cells = np.intersect1d(members(stored.labels, group), stored.function.held_out_cells)
        evaluators: dict[int, Evaluator] = {}
        for one in stored.sets:
            effect = np.nan
            if len(cells):
                if one.column not in evaluators:
                    evaluators[one.column] = Evaluator(population, cells, one.column, stored.replacement)  # fmt: skip
                change = evaluators[one.column].delta(one.features.tolist())
                effect = evaluators[one.column].relative(change) if relative else change
            rows.append({"gene": one.gene, "group": one.group, "in_group": group, "effect": effect})
    params = {"relative": bool(relative), "output": population.kind, "key": key}
    stored.place.write({"params": params, "effects": numbered(pd.DataFrame(rows))})
    return stored.place.returned
