"""Small signed gene panels that turn one group of cells into another."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_names
from lucidvi.algorithms._panel_path import Path, solve_path
from lucidvi.algorithms._panel_problem import PanelProblem
from lucidvi.explain._panel_input import PanelOptions, choose_pairs, group_labels, prepare
from lucidvi.explain._panel_storage import by_pair, panel_table, path_table, ranking, records
from lucidvi.explain._registered import registered

_LABEL = {"gate": "ACE, gate", "free": "ACE, free"}


def gene_panel(
    model: BaseModelClass,
    groupby: str,
    *,
    groups: Literal["all"] | str | Sequence[str] = "all",
    reference: str = "rest",
    n_genes: int | None = None,
    flip_rate: float = 0.95,
    perturbation: Literal["gate", "free"] = "gate",
    max_change: float = 2.0,
    bounds: Literal["observed"] | tuple[float, float] | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    per_cell: bool = False,
    n_cells: int = 200,
    n_steps: int = 25,
    n_null: int = 20,
    n_bootstrap: int = 0,
    progress: bool = True,
    seed: int | None = 0,
    key_added: str = Key.GENE_PANEL,
    copy: bool = False,
) -> AnnData | MuData | None:
    """Find the genes whose change moves a group's cells into another group, through the model's embedding.

    Groups are stood for by their centroids in the latent space, and assignment to the nearest is written as a network
    (neuralised k-means, ACE :cite:p:`Lu2021`). One perturbation, shared by all cells of a group, is sought that is
    sparse and takes the cells across. Its penalty falls step by step, and genes are ranked by when they enter. A gene
    that has to be lowered is *enriched* in the group (sign 1), one that has to be raised *depleted* (sign -1).

    Perturbed is what the encoder's first layer reads: scaled values for :class:`~lucidvi.model.ACE` and
    :class:`~lucidvi.model.SIVAE`, ``log1p`` of counts for most models of scvi-tools, in units of each gene's standard
    deviation. Panels are learned on cells that trained the model and reported on the others, which also decide where
    the path ends; in groups with fewer than three of either, on a random 70 and 30 %.

    Parameters
    ----------
    model
        Trained model with one latent space: ACE, SIVAE, SCVI, SCANVI, LinearSCVI, PEAKVI, TOTALVI (genes) and others
        whose encoder begins with a linear layer over the features.
    groupby
        Column of ``obs`` with the groups.
    groups
        Groups to explain.
    reference
        ``"rest"``: any other group will do; or the group to reach.
    n_genes
        Continue until that many genes have entered; by default until ``flip_rate`` alone is reached.
    flip_rate
        Wanted share of a group's held-out cells that change group.
    perturbation
        ``"gate"``: each gene moves by a share, up to ``max_change``, of the way from the group's mean to the
        reference's, so that perturbed cells stay among directions of the data. ``"free"``: any change, the paper's
        formula; its exact solution tends to one gene that changes by an impossible amount.
    max_change
        Upper limit of that share.
    bounds
        Limits of the changed values: a pair in units of the registered data, such as ``(0, 1)`` for images, or
        ``"observed"`` for each gene's range in the training cells. They hold for the group's mean, with ``per_cell``
        for every cell.
    include, exclude
        The only genes to be used, and genes not to be used.
    per_cell
        Find a change of its own for each cell rather than one for the group, as for images. No part of the cells is then
        held out, and genes are ranked by the mean size of their change.
    n_cells
        Cells of each group the perturbation is learned from.
    n_steps
        Steps of the path; the penalty falls by a factor of 1,000 over all of them.
    n_null
        Random panels of the same size with the same changes of randomly drawn genes, for comparison.
    n_bootstrap
        Repetitions on resampled cells, for the selection frequency of each gene.
    progress
        Show a progress bar.
    seed
        Seed of all draws.
    key_added
        Name of the result.
    copy
        Return a copy of the data with the result instead of changing the data.

    Returns
    -------
    ``None``, or the copy. Written into the object, or into the modality that the model reads:

    ``uns[key_added]``
        In the layout of :func:`scanpy.tl.rank_genes_groups`, so that all its plots and
        :func:`scanpy.get.rank_genes_groups_df` work with ``key=``: ``params``, and records ``names``, ``scores`` (1 for
        the first gene, falling with the step of entry), ``logfoldchanges``, ``pvals`` and ``pvals_adj`` (``NaN``). Besides:
        ``signs``; ``panels``, one row per group with the size of its panel, its flip rate and that of random panels;
        ``path``, one row per group and step; with ``n_bootstrap``, ``selection_frequency``.
    ``obs[groupby]``
        Of a MuData: the groups, in the modality, for scanpy's plots.
    ``varm[key_added]``
        Change of each gene in standard deviations at the end of the path, ``(n_genes, n_groups)``.
    ``layers[key_added]``
        With ``per_cell``: change of every chosen cell in units of the registered data (of ``log1p`` for counts), sparse
        ``(n_cells, n_genes)``.

    Raises
    ------
    KeyError
        If the column is not there.
    ValueError
        If the model is not trained or minified, a group, reference or gene is unknown, a group has fewer than 6 cells,
        or there is only one group.
    TypeError
        If the model has no such encoder.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.gene_panel(model, "group", progress=False)
    >>> adata.uns["gene_panel"]["panels"].shape[0]
    5
    """
    for value, least, name in ((n_cells, 3, "n_cells"), (n_steps, 2, "n_steps"), (n_null, 0, "n_null"), (n_bootstrap, 0, "n_bootstrap")):  # fmt: skip
        check_integer(value, least, name)
    if perturbation not in _LABEL:
        raise ValueError(f"perturbation={perturbation!r} is unknown. Allowed: 'gate', 'free'.")
    if not 0 < flip_rate <= 1:
        raise ValueError(f"flip_rate={flip_rate} must be above 0 and at most 1.")
    if not (bounds is None or bounds == "observed" or (len(bounds) == 2 and bounds[0] < bounds[1])):
        raise ValueError(
            f"bounds={bounds!r} must be 'observed' or a pair such as (0, 1), lower limit first."
        )
    if per_cell and n_bootstrap:
        raise ValueError(f"n_bootstrap={n_bootstrap} and per_cell=True exclude each other: resampling cells changes nothing.")  # fmt: skip
    names = registered(model, model.adata).var_names
    check_names(exclude, names, "Gene")
    check_names(include or (), names, "Gene")
    usable = set(names if include is None else include) - set(exclude)
    if n_genes is not None:
        check_integer(n_genes, 1, "n_genes")
        if n_genes > len(usable):
            raise ValueError(f"n_genes={n_genes} is more than the {len(usable)} genes there are.")
    labels = group_labels(model, groupby)
    pairs = choose_pairs(sorted(set(labels)), groups, reference, groupby)
    given = prepare(model, labels, groupby, names, seed)
    allowed = given.encoder.names.isin(list(usable))
    options = PanelOptions(perturbation, max_change, allowed, bounds, per_cell)
    penalties = torch.logspace(0, -3, n_steps + 1)[1:]
    reported = given.problem(pairs, given.held_out, n_cells if per_cell else 500, options)
    with tqdm(total=n_steps * (1 + n_bootstrap), disable=not progress, desc="gene panel") as bar:

        def run(problem: PanelProblem) -> Path:
            steps = solve_path(
                problem, reported[0], penalties, flip_rate=flip_rate, n_features=n_genes
            )
            done: list[Path] = []
            for path in steps:
                done.append(path)
                bar.update(1)
            bar.update(n_steps - len(done))
            return done[-1]

        learned = reported if per_cell else given.problem(pairs, given.train, n_cells, options)
        path, of = run(learned[0]), learned[1]
        frequency = np.zeros((len(pairs), len(given.encoder.names)))
        rng = np.random.default_rng(seed)
        for _ in range(n_bootstrap):
            again = {g: rng.choice(c, len(c)) for g, c in given.train.items()}
            entry = run(given.problem(pairs, again, n_cells, options)[0]).entry
            frequency += (entry < n_steps).cpu().numpy() / n_bootstrap
    order, score = ranking(learned[0], path, of)
    change = path.theta * learned[0].direction
    delta = by_pair(change, of).astype(np.float32)
    data = model.adata.copy() if copy else model.adata
    store = registered(model, data)
    result = {
        "params": {
            "groupby": groupby, "reference": reference, "method": _LABEL[perturbation], "use_raw": False,
            "layer": None, "corr_method": "none", "model": type(model).__name__, "flip_rate": flip_rate,
            "per_cell": per_cell,
        },
        **records(given, pairs, order, score, delta),
        "panels": panel_table(learned, reported, path, pairs, allowed, n_null, rng),
        "path": path_table(path, of, pairs),
    }  # fmt: skip
    columns = [group for group, _ in pairs]
    if n_bootstrap:
        result["selection_frequency"] = pd.DataFrame(frequency.T, given.encoder.names, columns)
    if isinstance(data, MuData):  # scanpy looks for the groups beside the result
        store.obs[groupby] = pd.Categorical(labels)
    at = store.var_names.get_indexer(given.encoder.names)
    moves = np.zeros((store.n_vars, len(pairs)), dtype=np.float32)
    moves[at] = delta.T
    store.varm[key_added] = moves
    if per_cell:
        cells = np.concatenate([given.held_out[group][:n_cells] for group in columns])
        units = (change * given.std * given.encoder.unit).cpu().numpy()
        store.layers[key_added] = _scattered(units, cells, at, store.shape)
    store.uns[key_added] = result
    return data if copy else None


def _scattered(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:  # fmt: skip
    """Values of some rows and columns in a sparse matrix."""
    found = sp.coo_matrix(values)
    at = rows[found.row], columns[found.col]
    return sp.csr_matrix((found.data.astype(np.float32), at), shape=shape)
