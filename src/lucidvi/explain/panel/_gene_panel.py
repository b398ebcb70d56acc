"""Small signed gene panels that turn one group of cells into another."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, Literal, cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_number
from lucidvi._workers import run_each
from lucidvi.adapters import adapter
from lucidvi.explain._cells import donors_of_cells
from lucidvi.explain._results import Place, placed
from lucidvi.explain.panel._differences import differences
from lucidvi.explain.panel._genes import usable_genes
from lucidvi.explain.panel._groups import labels_of_panel, pairs_of_groups, pairs_within, with_cells
from lucidvi.explain.panel._halves import Halves
from lucidvi.explain.panel._problem import MIN_CELLS, PanelOptions, prepare
from lucidvi.explain.panel._search import PanelSearch, panel_of
from lucidvi.explain.panel._tables import (
    SolvedPanel,
    tables,
)

_LABEL = {"gate": "ACE, gate", "free": "ACE, free"}


@checked
def gene_panel(
    model: BaseModelClass,
    groupby: str,
    *,
    groups: str | Sequence[str] | None = None,
    within: str | None = None,
    donor_key: str | None = None,
    reference: str = "each",
    merge: Literal["best", "mean"] = "best",
    modality: str | None = None,
    n_genes: int | None = None,
    flip_rate: float = 0.95,
    perturbation: Literal["gate", "free"] = "gate",
    penalty: Literal["adaptive", "equal"] | None = None,
    max_change: float = 2.0,
    alpha: float = 1.0,
    beta: float | None = None,
    bounds: Literal["observed"] | tuple[float, float] | None = None,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    per_cell: bool = False,
    n_cells: int = 100,
    n_steps: int = 25,
    n_null: int = 10,
    n_bootstrap: int = 0,
    n_jobs: int = 1,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.GENE_PANEL,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    """Find the genes whose change moves the cells of a group into another group.

    Each group is represented by its centroid in the latent space. The assignment of cells to the
    nearest centroid is written as a neural network (neuralised k-means, ACE :cite:p:`Lu2021`). The
    function searches for one sparse perturbation, shared by all cells of a group, that moves the
    cells into another group. The sparsity penalty falls step by step, and genes are ranked by the
    step at which they enter. A gene that has to be lowered is *enriched* in the group (sign 1). A
    gene that has to be raised is *depleted* (sign -1).

    The perturbation changes the input values of the encoder's first layer (``log1p`` of counts for
    most models of scvi-tools), in units of each gene's standard deviation. A panel is learned from
    cells that trained the model and is evaluated on held-out cells. The held-out cells also decide
    where the path ends. If a group has fewer than three training or held-out cells, the panel is
    learned from a random 70 % of the cells and evaluated on the other 30 %.

    Parameters
    ----------
    model
        Trained model of :func:`lucidvi.adapters.supported` whose encoder begins with a linear
        layer.
    groupby
        Column of ``obs`` with the groups.
    groups
        Groups to explain; all by default.
    within
        Column of ``obs`` with cell types, for groups that are conditions. Each type with cells of
        the group and of the reference gets its own panel, which turns cells of the group into cells
        of the reference. Groups of the result are called ``"<type>: <group>"``. With more than two
        conditions, name one as ``reference``.
    donor_key
        Column of ``obs`` with donors. Panels are then evaluated on all cells of three donors in
        ten, drawn at random, instead of on the cells that did not train the model.
    reference
        Group into which the cells of a group are moved. ``"rest"``: the nearest other group.
        ``"each"``: the same, but genes that separate the group from any single other group move up
        in the ranking. The name of a group is also allowed.
    merge
        Ranking of genes with ``reference="each"``. ``"best"`` takes the better of two ranks: the
        rank along the path to any other group, and the rank among the first steps to each of the
        other groups. ``"mean"`` takes the mean of both scores.
    modality
        Modality of a MuData, or layer, whose features are changed; by default the genes.
    n_genes
        Continue the path after ``flip_rate`` is reached, until this many genes have entered. By
        default the path ends as soon as ``flip_rate`` is reached.
    flip_rate
        Share of a group's held-out cells that should change group.
    perturbation
        ``"gate"``: each gene moves a share (up to ``max_change``) of the way from the group's mean
        to the reference's mean. Perturbed cells therefore move in directions that occur in the
        data. ``"free"``: any change is allowed, as in the paper's formula. Its exact solution tends
        to change a single gene by an impossible amount.
    penalty
        ``"adaptive"``: a gene has a smaller penalty if other genes do not explain its difference
        between the groups (linear discriminant analysis). Genes that only follow other genes
        therefore enter late. ``"equal"``: all genes have the same penalty, as in the paper. The
        default is ``"adaptive"`` for gates shared by a group, and ``"equal"`` otherwise.
    max_change
        Upper limit of a gate. At 1 a gene can reach the reference's mean; at 2 it can go the same
        distance beyond it.
    alpha
        Margin of the hinge loss: the lead that the logit of the wanted group needs before a cell
        counts as moved.
    beta
        Stiffness of the assignment to groups, ``p ~ exp(-beta * squared distance)``. The default is
        twice the inverse of the mean squared distance to the nearest centroid.
    bounds
        Limits of the changed values: a pair in units of the registered data, such as ``(0, 1)`` for
        images, or ``"observed"`` for each gene's range in the training cells. They apply to the
        group's mean, or with ``per_cell`` to every cell.
    include, exclude
        Genes that alone may be used, and genes that must not be used: names, or patterns such as
        ``"MT-*"`` and ``"RP[SL]*"``.
    per_cell
        Find a separate change for each cell instead of one for the group, as for images. In this
        case no cells are held out, and genes are ranked by the mean size of their change.
    n_cells
        Number of cells of each group from which the perturbation is learned.
    n_steps
        Number of steps of the path. The penalty falls by a factor of 1,000 over all steps.
    n_null
        Number of random panels for comparison. They have the same size and apply the same changes
        to randomly drawn genes.
    n_bootstrap
        Number of repetitions on half of the training cells (half of the donors, with
        ``donor_key``). Repetitions come in pairs whose halves share no cell. They give the
        selection frequency of each gene and the stability of each panel. The model is not
        retrained.
    n_jobs
        Number of panels searched in parallel, as in :func:`subset_perturbation`.
    adata
        Cells to explain instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to explain instead of the model's data, as scvi-tools' data modules
        provide them. The cells are collected in an AnnData, which is returned with the result.
    seed
        Seed of all random draws.
    key_added
        Name of the result.
    copy
        Return a changed copy of the data instead of changing the data in place.
    progress
        Show a progress bar.

    Returns
    -------
    ``None``, or the copy. The result is written into the object, or into the modality that the
    model reads:

    ``uns[key_added]``
        Result in the layout of :func:`scanpy.tl.rank_genes_groups`, so that all its plots, filters
        and :func:`scanpy.get.rank_genes_groups_df` work with ``key=``. It holds ``params``, the
        records ``names`` and ``scores`` (falling with the rank), the records ``logfoldchanges``,
        ``pvals`` and ``pvals_adj``, and the tables ``pts`` and ``pts_rest``. The last five describe
        each gene alone, as scanpy's t-test does on log-normalised data (without fold changes where
        data are negative). Further entries are ``signs``, and with ``reference="each"``
        ``against``: the other group that a gene separates best, and to which the sign of a gene
        outside the path refers; ``panels``, one row per group with the size of its panel, its flip
        rate and that of random panels; ``path``, one row per group and step. With ``n_bootstrap``,
        the record ``selection_frequency`` gives how often a gene was among the first genes, as many
        as entered the path. With two or more repetitions, ``panels["stability"]`` is Kuncheva's
        index of these genes in two halves: 1 for the same genes and 0 for agreement by chance
        (``NaN`` where a half would have fewer than 3 cells of the group); ``skipped``, where groups
        are too small for a panel: ``group`` and ``reason``.
    ``obs[groupby]``
        Groups for scanpy's plots, added to the modality of a MuData that lacks this column. If the
        groups are numbers or booleans instead of text, ``obs[key_added + "_" + groupby]`` holds
        them as text, and ``params["groupby"]`` names that column.
    ``varm[key_added]``
        Change of each gene in standard deviations at the end of the path, ``(n_genes, n_groups)``.
    ``layers[key_added]``
        With ``per_cell``: change of every selected cell in units of the registered data (of
        ``log1p`` for counts), sparse, ``(n_cells, n_genes)``.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If the column does not exist.
    ValueError
        If the data are minified, a group, reference or gene is unknown, or there are fewer than two
        groups of at least 6 cells.
    TypeError
        If the model's encoder does not begin with a linear layer.

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
    check_number(flip_rate, "flip_rate", above=0, most=1)
    for number, name in ((max_change, "max_change"), (alpha, "alpha"), (beta, "beta")):
        if number is not None:
            check_number(number, name, above=0)
    if merge not in ("best", "mean"):
        raise ValueError(f"merge={merge!r} is unknown. Allowed: 'best', 'mean'.")
    if penalty not in (None, "adaptive", "equal"):
        raise ValueError(f"penalty={penalty!r} is unknown. Allowed: 'adaptive', 'equal'.")
    _check_bounds(bounds)
    if per_cell and n_bootstrap:
        raise ValueError(f"n_bootstrap={n_bootstrap} and per_cell=True exclude each other: resampling cells changes nothing.")  # fmt: skip
    function = adapter(model, adata, dataloader=dataloader, modality=modality, prefer="genes")
    names = function.features
    usable = usable_genes(names, include, exclude)
    if n_genes is not None:
        check_integer(n_genes, 1, "n_genes")
        if n_genes > usable.sum():
            raise ValueError(f"n_genes={n_genes} is more than the {usable.sum()} genes there are.")
    labels = labels_of_panel(function, groupby, within)
    if within:
        asked = pairs_within(function, groups, reference, groupby, within)
    else:
        asked = pairs_of_groups(labels, groups, reference, groupby)
    donors = donors_of_cells(function, donor_key)
    merged = merge if reference == "each" and not per_cell and not within else None
    place = Place(function, key_added, "gene_panel", labels, copy=copy)
    data, store = place.data, place.store
    given = prepare(function, labels, groupby, seed, beta, donors)
    pairs, skipped = with_cells(asked, given.groups, given.skipped, groupby, MIN_CELLS)
    allowed = usable & (given.weight.abs().sum(1) > 0).cpu().numpy()
    adaptive = perturbation == "gate" and not per_cell if penalty is None else penalty == "adaptive"
    options = PanelOptions(perturbation, max_change, allowed, bounds, per_cell, adaptive, alpha)
    tests = differences(function, labels, given.groups)
    penalties = torch.logspace(0, -3, n_steps + 1)[1:]
    found: list[SolvedPanel] = []
    if within:
        columns: dict[str, Any] = {f"{key_added}_{groupby}": labels.reindex(store.obs_names).astype("category")}  # fmt: skip
    else:
        columns = _groups_for_scanpy(data, store, groupby, key_added)
    params = {
        "groupby": next(iter(columns), groupby), "method": _LABEL[perturbation],
        "reference": pairs[0][1] if len({other for _, other in pairs}) == 1 else "rest",
        "use_raw": False, "layer": None, "corr_method": "none", "model": function.model_name,
        "flip_rate": flip_rate, "per_cell": per_cell, "column": groupby, "within": within or "",
        "donor_key": donor_key or "", "merge": merged or "",
        "penalty": "adaptive" if adaptive else "equal", "alpha": alpha, "beta": given.kmeans.beta,
    }  # fmt: skip
    with tqdm(total=len(pairs) * (1 + n_bootstrap), disable=not progress, desc="gene panel") as bar:
        try:  # one group after the other: the panel of a group does not depend on those asked for beside it
            here = n_jobs == 1
            shared = PanelSearch(
                given, options, Halves(given, seed, beta, donors), penalties, flip_rate, n_genes, n_cells, n_bootstrap, n_null,
                merged, seed, bar.update if here else None,
            )  # fmt: skip
            for panel in run_each(panel_of, shared, pairs, n_jobs):
                found.append(panel)
                bar.update(0 if here else 1 + n_bootstrap)
        finally:  # groups that are done are kept when the rest is interrupted
            if found:
                result = {"params": params} | tables(given, found, tests, bootstrap=n_bootstrap > 0)
                if len(skipped):
                    result["skipped"] = skipped
                layers = {}
                if per_cell:
                    cells = np.concatenate(
                        [given.held_out[panel.pair[0]][:n_cells] for panel in found]
                    )
                    units = (
                        np.concatenate([panel.change for panel in found]) * given.std.cpu().numpy()
                    )
                    at = store.var_names.get_indexer(names)
                    layers[key_added] = _scattered(units, cells, at, store.shape)
                delta = np.stack([panel.delta for panel in found])
                place.write(result, varm={key_added: placed(delta.T, names, store)}, layers=layers, obs=columns)  # fmt: skip
    return place.returned


def _check_bounds(bounds: Any) -> None:
    """Require ``None``, a word or two numbers."""
    if bounds is None or (isinstance(bounds, str) and bounds == "observed"):
        return
    pair = list(bounds) if isinstance(bounds, tuple | list | np.ndarray) else []
    if not (len(pair) == 2 and all(isinstance(b, Real) for b in pair) and pair[0] < pair[1]):
        raise ValueError(
            f"bounds={bounds!r} must be 'observed' or a pair such as (0, 1), lower limit first."
        )


def _groups_for_scanpy(data: AnnData | MuData, store: AnnData, groupby: str, key: str) -> dict[str, Any]:  # fmt: skip
    """Return a column of groups where there is none that scanpy's plots can read beside the result: of categories of text."""
    column: pd.Series = store.obs[groupby] if groupby in store.obs else _column(data, groupby).reindex(store.obs_names)  # fmt: skip
    kind = (
        column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.dropna()
    )
    if all(isinstance(value, str) for value in kind.unique()):
        return {} if groupby in store.obs else {groupby: column}
    return {
        f"{key}_{groupby}": column.astype(object).map(str, na_action="ignore").astype("category")
    }


def _column(data: AnnData | MuData, groupby: str) -> pd.Series:
    if groupby in data.obs:
        return data.obs[groupby]
    return next(part.obs[groupby] for part in cast("MuData", data).mod.values() if groupby in part.obs)  # fmt: skip


def _scattered(values: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sp.csr_matrix:  # fmt: skip
    """Return values of some rows and columns in a sparse matrix."""
    found = sp.coo_matrix(values)
    at = rows[found.row], columns[found.col]
    return sp.csr_matrix((found.data.astype(np.float32), at), shape=shape)
