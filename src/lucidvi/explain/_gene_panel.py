"""Small signed gene panels that turn one group of cells into another."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from scvi.model.base import BaseModelClass
from tqdm.auto import tqdm

from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_names
from lucidvi.algorithms._panel_path import PanelProblem, Path, initial_gradient, solve_path
from lucidvi.explain._panel_input import PanelInput, choose_pairs, prepare

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
    exclude: Sequence[str] = (),
    n_cells: int = 200,
    n_steps: int = 25,
    n_null: int = 20,
    n_bootstrap: int = 0,
    progress: bool = True,
    seed: int | None = 0,
    key_added: str = Key.GENE_PANEL,
    copy: bool = False,
) -> AnnData | None:
    """Find the genes whose change moves a group's cells into another group, through the model's embedding.

    Groups are stood for by their centroids in the latent space, and assignment to the nearest is written as a network
    (neuralised k-means, ACE :cite:p:`Lu2021`). One perturbation, shared by all cells of a group, is sought that is
    sparse and takes the cells across. Its penalty falls step by step, and genes are ranked by when they enter. A gene
    that has to be lowered is *enriched* in the group (sign 1), one that has to be raised *depleted* (sign -1).

    Perturbed is what the encoder's first layer reads: scaled values for :class:`~lucidvi.model.ACE` and
    :class:`~lucidvi.model.SIVAE`, ``log1p`` of counts for most models of scvi-tools, in units of each gene's standard
    deviation. Panels are learned on cells that trained the model and reported on the others.

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
    exclude
        Genes that must not be used.
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
    ``None``, or the copy. Written into the object:

    ``uns[key_added]``
        In the layout of :func:`scanpy.tl.rank_genes_groups`, so that all its plots and
        :func:`scanpy.get.rank_genes_groups_df` work with ``key=``: ``params``, and records ``names``, ``scores`` (1 for
        the first gene, falling with the step of entry), ``logfoldchanges``, ``pvals`` and ``pvals_adj`` (``NaN``). Besides:
        ``signs``; ``panels``, one row per group with the size of its panel, its flip rate and that of random panels;
        ``path``, one row per group and step; with ``n_bootstrap``, ``selection_frequency``.
    ``varm[key_added]``
        Change of each gene in standard deviations at the end of the path, ``(n_genes, n_groups)``.

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
    if not isinstance(model.adata, AnnData):
        raise TypeError(
            f"The model reads a {type(model.adata).__name__}. Panels need a model of one AnnData: train it on the "
            "modality, such as mdata['rna']."
        )
    names = model.adata.var_names
    check_names(exclude, names, "Gene")
    if n_genes is not None:
        check_integer(n_genes, 1, "n_genes")
        if n_genes > len(names) - len(set(exclude)):
            raise ValueError(f"n_genes={n_genes} is more than the {len(names) - len(set(exclude))} genes there are.")  # fmt: skip
    known = sorted(set(model.adata.obs[groupby].dropna().astype(str))) if groupby in model.adata.obs else []  # fmt: skip
    if known:
        choose_pairs(known, groups, reference, groupby)
    given = prepare(model, groupby, names, seed)
    pairs = choose_pairs(given.groups, groups, reference, groupby)
    allowed = ~given.encoder.names.isin(list(exclude))
    settings = {"perturbation": perturbation, "max_change": max_change, "allowed": allowed}
    penalties = torch.logspace(0, -3, n_steps + 1)[1:]
    target = {"flip_rate": flip_rate, "n_features": n_genes}
    held_out = given.problem(pairs, given.held_out, 500, **settings)
    with tqdm(total=n_steps * (1 + n_bootstrap), disable=not progress, desc="gene panel") as bar:

        def run(cells: dict[str, np.ndarray]) -> tuple[PanelProblem, Path]:
            problem = given.problem(pairs, cells, n_cells, **settings)
            steps = solve_path(problem, held_out, penalties, **target)
            done: list[Path] = []
            for path in steps:
                done.append(path)
                bar.update(1)
            bar.update(n_steps - len(done))
            return problem, done[-1]

        problem, path = run(given.train)
        frequency = torch.zeros_like(path.theta)
        rng = np.random.default_rng(seed)
        for _ in range(n_bootstrap):
            again = {g: rng.choice(c, len(c)) for g, c in given.train.items()}
            frequency += (run(again)[1].entry < n_steps).to(frequency) / n_bootstrap
    order, score = rank(problem, path)
    data = model.adata.copy() if copy else model.adata
    result = {
        "params": {
            "groupby": groupby, "reference": reference, "method": _LABEL[perturbation], "use_raw": False,
            "layer": None, "corr_method": "none", "model": type(model).__name__, "flip_rate": flip_rate,
        },
        **_records(given, pairs, problem, order, score),
        "panels": _panels(problem, pairs, path, held_out, n_null, allowed, rng),
        "path": pd.DataFrame(path.rows).assign(group=lambda t: [pairs[g][0] for g in t.pop("problem")]),
    }  # fmt: skip
    if n_bootstrap:
        columns = [group for group, _ in pairs]
        result["selection_frequency"] = pd.DataFrame(frequency.T.numpy(), given.encoder.names, columns)  # fmt: skip
    delta = np.zeros((data.n_vars, len(pairs)), dtype=np.float32)
    delta[names.get_indexer(given.encoder.names)] = (path.theta * problem.direction).T.numpy()
    data.uns[key_added], data.varm[key_added] = result, delta
    return data if copy else None


def rank(problem: PanelProblem, path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Features by step of entry, then by size of their change, then by the gradient at the start; and falling scores."""
    gradient = initial_gradient(problem).abs()
    usable = problem.low < problem.high
    size = (path.theta * problem.direction).abs()
    tie = size / size.max(1, keepdim=True).values.clamp_min(1e-12)
    later = gradient / gradient.max(1, keepdim=True).values.clamp_min(1e-12)
    entered = path.entry < path.n_steps
    # within a step: from 1 to 0, those that never entered below all that did
    position = path.entry + torch.where(entered, 0.9 * (1 - tie), 0.9 * (1 - later))
    score = torch.where(usable, 1 - position / (path.n_steps + 1), 0.0).numpy()
    return np.argsort(-score, axis=1, kind="stable"), score


def _records(
    given: PanelInput, pairs: list[tuple[str, str]], problem: PanelProblem, order: np.ndarray, score: np.ndarray
) -> dict[str, np.ndarray]:  # fmt: skip
    """Ranked columns as scanpy keeps them."""
    names = given.encoder.names.to_numpy().astype(str)
    columns: dict[str, list[np.ndarray]] = {k: [] for k in ("names", "scores", "logfoldchanges", "signs", "pvals", "pvals_adj")}  # fmt: skip
    for g, (group, reference) in enumerate(pairs):
        ranked = order[g]
        own = given.mean[given.groups.index(group)].numpy()
        other = given._reference_mean(group, reference).numpy()
        change = (own - other) / np.log(2)
        columns["names"].append(names[ranked])
        columns["scores"].append(score[g][ranked].astype(np.float32))
        columns["logfoldchanges"].append(change[ranked].astype(np.float32))
        columns["signs"].append(np.sign(own - other)[ranked].astype(np.int8))
        for key in ("pvals", "pvals_adj"):
            columns[key].append(np.full(len(ranked), np.nan))
    labels = [group for group, _ in pairs]
    return {
        key: np.rec.fromarrays(parts, dtype=[(label, parts[0].dtype if key != "names" else "O") for label in labels])
        for key, parts in columns.items()
    }  # fmt: skip


def _panels(
    problem: PanelProblem, pairs: list[tuple[str, str]], path: Path, held_out: PanelProblem, n_null: int,
    allowed: np.ndarray, rng: np.random.Generator,
) -> pd.DataFrame:  # fmt: skip
    """Size and flip rate of each panel on held-out cells, next to random panels."""
    everything = torch.ones(len(pairs), dtype=torch.bool)
    with torch.no_grad():
        margin, owner = held_out.margins(path.theta, everything)
    pool, null = np.flatnonzero(allowed), np.zeros((max(n_null, 1), len(pairs)))
    for i in range(n_null):
        random = torch.zeros_like(path.theta)
        for g in range(len(pairs)):
            values = path.theta[g][path.theta[g] != 0]
            random[g, rng.choice(pool, len(values), replace=False)] = values
        null[i] = held_out.flip_rate(random).numpy()
    rate = held_out.flip_rate(path.theta).numpy()
    before = held_out.flip_rate(torch.zeros_like(path.theta)).numpy()
    return pd.DataFrame(
        {
            "group": [g for g, _ in pairs],
            "reference": [r for _, r in pairs],
            "n_genes": (path.theta != 0).sum(1).numpy(),
            "flip_rate": rate,
            "flip_rate_before": before,
            "flip_rate_random": null.mean(0) if n_null else np.nan,
            "margin": [float(-margin[owner == g].mean()) for g in range(len(pairs))],
            "n_learned": torch.bincount(problem.owner, minlength=len(pairs)).numpy(),
            "n_held_out": torch.bincount(owner, minlength=len(pairs)).numpy(),
        }
    )
