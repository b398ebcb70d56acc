"""One panel of genes for all groups, within a budget."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from mudata import MuData
from scvi.model.base import BaseModelClass
from sklearn.ensemble import RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor
from tqdm.auto import tqdm

from lucidvi._arguments import checked
from lucidvi._keys import Key
from lucidvi._validation import check_integer, check_number
from lucidvi.adapters import adapter
from lucidvi.adapters._base import CHUNK
from lucidvi.algorithms._forward_selection import forward_selection
from lucidvi.explain._cells import chosen_groups, donors_of_cells, labels_of_cells
from lucidvi.explain._log_normalised import log_normalised
from lucidvi.explain._results import Place, placed
from lucidvi.explain.panel._genes import named_genes, usable_genes
from lucidvi.explain.panel._problem import PanelInput, prepare

_LEAST_CELLS = 50  # of a group


@checked
def joint_panel(
    model: BaseModelClass,
    groupby: str,
    n_genes: int = 50,
    *,
    n_per_group: int = 1,
    groups: str | Sequence[str] | None = None,
    force: Sequence[str] = (),
    given: Sequence[str] = (),
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    min_expression: float | None = None,
    max_expression: float | None = None,
    donor_key: str | None = None,
    modality: str | None = None,
    n_cells: int = 5000,
    adata: AnnData | MuData | None = None,
    dataloader: Iterable[dict[str, Tensor]] | None = None,
    seed: int | None = 0,
    key_added: str = Key.JOINT_PANEL,
    copy: bool = False,
    progress: bool = True,
) -> AnnData | MuData | None:
    """Select one gene panel of limited size, such as a probe set, that distinguishes all groups.

    Genes are selected one after the other. The earlier genes leave a part of the variation of the
    groups, and of their probabilities in the model's embedding, unexplained. The new gene is the
    one that explains the largest share of this part (orthogonal least squares :cite:p:`Chen1989`).
    If two genes carry the same information, only one of them is therefore selected. The accuracy of the panel is measured in held-out cells, by
    a random forest and by nearest neighbours. These two classifiers have no part in the selection.

    Parameters
    ----------
    model
        Trained model of :func:`lucidvi.adapters.supported` whose encoder begins with a linear
        layer.
    groupby
        Column of ``obs`` with the groups.
    n_genes
        Number of genes to select (the budget), including those of ``force``.
    n_per_group
        Smallest number of genes that serve each group.
    groups
        Groups to distinguish; all by default. Cells of other groups are left out.
    force
        Genes that must be in the panel.
    given
        Genes that are already on the panel and do not count towards the budget. The other genes are
        selected for what these genes do not explain.
    include, exclude
        ``include``: the only genes that may be selected. ``exclude``: genes that must not be
        selected. Both take names, or patterns such as ``"MT-*"`` and ``"RP[SL]*"``.
    min_expression, max_expression
        Lowest and highest mean that a selected gene may have in the cells used for the selection.
        The unit is that of the registered data, such as counts per cell if the model reads counts.
    donor_key
        Column of ``obs`` with donors. All cells of three in ten donors are then held out.
    modality
        Modality of a MuData, or layer, whose features are selected; by default the genes.
    n_cells
        Approximate number of cells for the selection, and also for the evaluation. Each group
        contributes cells in proportion to its size, but at least 50.
    adata
        Cells to use instead of the model's data, with the same features.
    dataloader
        Minibatches of the cells to use instead of the model's data.
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
        * ``genes``: one row per gene in the order of selection, with ``gene``, ``group`` (the group
          that the gene serves), ``sign`` (1 if the gene is higher in this group than in the others,
          otherwise -1), ``gain`` (share of the groups' variance that it explains beyond the earlier
          genes), ``origin`` (``"given"``, ``"forced"`` or ``"chosen"``) and ``expression`` (mean of
          the registered data).
        * ``scores``: one row per size of the panel and classifier, with ``accuracy`` and
          ``balanced_accuracy`` in held-out cells.
        * ``confusion``: one row per pair of groups. ``n_cells`` is the number of cells of ``group``
          that the random forest assigns to ``predicted`` with the whole panel.
        * ``skipped``: groups that are too small, if there are any.
        * ``params``: parameters of the selection.
    ``var[key_added]``
        Whether a gene is in the panel.

    Raises
    ------
    RuntimeError
        If the model is not trained.
    KeyError
        If the column does not exist.
    ValueError
        If the budget is too small for the groups, a gene or group is unknown, a pattern matches
        nothing, or genes are both required and excluded.
    TypeError
        If the model's encoder does not begin with a linear layer.

    Examples
    --------
    >>> import lucidvi as lv
    >>> adata = lv.datasets.ace_simulation(n_cells=200)
    >>> lv.model.ACE.setup_anndata(adata, labels_key="group")
    >>> model = lv.model.ACE(adata, n_latent=5, hidden=(64, 32))
    >>> model.train(max_epochs=4, enable_progress_bar=False)
    >>> lv.explain.joint_panel(model, "group", n_genes=12, n_per_group=2, progress=False)
    >>> int(adata.var["joint_panel"].sum())
    12
    """
    for value, least, name in ((n_genes, 1, "n_genes"), (n_per_group, 0, "n_per_group"), (n_cells, 50, "n_cells")):  # fmt: skip
        check_integer(value, least, name)
    for number, name in ((min_expression, "min_expression"), (max_expression, "max_expression")):
        if number is not None:
            check_number(number, name)
    function = adapter(model, adata, dataloader=dataloader, modality=modality, prefer="genes")
    names = function.features
    demanded = {name: np.flatnonzero(named_genes(names, genes, name)) for name, genes in (("force", force), ("given", given))}  # fmt: skip
    usable = usable_genes(names, include, exclude)
    excluded = named_genes(names, exclude, "exclude")
    if clash := [str(names[i]) for i in demanded["force"] if excluded[i]]:
        raise ValueError(f"{clash[:3]} are in force and in exclude. Leave them out of one.")
    labels = labels_of_cells(function, groupby)
    if groups is not None:
        labels = labels.where(labels.isin(chosen_groups(labels, groups)))
    n_groups = labels.nunique()
    if n_genes < max(n_groups * n_per_group, len(demanded["force"])):
        raise ValueError(
            f"n_genes={n_genes} is too few for n_per_group={n_per_group} of {n_groups} groups and {len(demanded['force'])} "
            f"forced genes. Pass at least {max(n_groups * n_per_group, len(demanded['force']))}, or a smaller n_per_group."
        )
    place = Place(function, key_added, "joint_panel", labels, copy=copy)
    known = prepare(function, labels, groupby, seed, donors=donors_of_cells(function, donor_key))
    with tqdm(total=3, disable=not progress, desc="joint panel") as bar:
        group, x, probability, mean = _cells(known, known.train, n_cells)
        spread = np.maximum(x.std(0), 1e-6)
        usable &= _expressed(mean, min_expression, max_expression) & (spread > 1e-6)
        first = [*demanded["given"], *np.setdiff1d(demanded["force"], demanded["given"])]
        n_free = n_genes - (len(first) - len(demanded["given"]))
        if n_free > usable.sum():
            raise ValueError(
                f"{usable.sum()} genes vary and may be chosen, fewer than the {n_free} of the budget. Allow more, or lower n_genes."
            )
        bar.update(1)
        member = group[:, None] == np.arange(len(known.groups))
        steps = forward_selection(
            x / spread, np.concatenate([member, probability], 1, dtype=np.float32), n_free, allowed=usable, start=[int(i) for i in first],
            least=n_per_group, group=np.tile(np.arange(len(known.groups)), 2),
        )  # fmt: skip
        bar.update(1)
        truth, tried, _, _ = _cells(known, known.held_out, n_cells)
        columns = [step.feature for step in steps]
        scores, confusion = _tried(x, group, tried, truth, columns, len(demanded["given"]), known.groups)  # fmt: skip
        bar.update(1)
    own = np.array([step.group for step in steps])
    higher = [x[group == g, c].mean() > x[group != g, c].mean() for c, g in zip(columns, own, strict=True)]  # fmt: skip
    origin = np.full(len(names), "chosen", dtype=object)
    origin[demanded["force"]], origin[demanded["given"]] = "forced", "given"
    genes = pd.DataFrame({
        "gene": names[columns].to_numpy().astype(str), "group": np.array(known.groups, dtype=object)[own],
        "sign": np.where(higher, 1, -1), "gain": [step.gain for step in steps], "origin": origin[columns],
        "expression": mean[columns],
    })  # fmt: skip
    result: dict[str, object] = {
        "params": {
            "groupby": groupby, "n_genes": n_genes, "n_per_group": n_per_group, "model": function.model_name,
            "donor_key": donor_key or "",
        },
        "genes": genes, "scores": scores, "confusion": confusion,
    }  # fmt: skip
    if len(known.skipped):
        result["skipped"] = known.skipped
    chosen = np.isin(np.arange(len(names)), columns)
    place.write(result, var={key_added: placed(chosen, names, place.store, fill=False)})
    return place.returned


def _cells(known: PanelInput, cells: dict[str, np.ndarray], n_cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Group, log-normalised values, probability of each group, and mean of the data of some cells.

    They are a share of each group; small groups are there with more cells.
    """
    function = known.function
    share = n_cells / max(sum(len(part) for part in cells.values()), 1)
    rows = [part[: max(_LEAST_CELLS, int(share * len(part)))] for part in cells.values()]
    at, group = np.concatenate(rows), np.repeat(np.arange(len(rows)), [len(part) for part in rows])
    values, probability, total = [], [], np.zeros(len(function.features))
    for i in range(0, len(at), CHUNK):
        tensors = function.minibatch(at[i : i + CHUNK])
        x = function.values(tensors)
        with torch.no_grad():
            z = function.evaluate(x, tensors, "latent")
        probability.append(known.kmeans.logits(z).sigmoid().cpu().numpy())
        x = x.cpu()
        total += function.input.scale.back(x.double()).sum(0).numpy()
        values.append(log_normalised(function, x).float().numpy())
    return group, np.concatenate(values), np.concatenate(probability), total / len(at)


def _expressed(mean: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """Mask of features within limits of mean expression."""
    fits = (mean >= (-np.inf if low is None else low)) & (
        mean <= (np.inf if high is None else high)
    )
    if not fits.any():
        raise ValueError(
            f"No gene has a mean expression between min_expression={low} and max_expression={high}. "
            f"Means lie between {mean.min():.3g} and {mean.max():.3g}."
        )
    return fits


def _tried(
    x: np.ndarray, group: np.ndarray, tried: np.ndarray, truth: np.ndarray, columns: list[int], n_given: int, names: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Accuracy of classifiers in held-out cells by size of the panel, and the forest's confusion with all genes."""
    least = max(n_given, 1)
    steps = np.geomspace(least, len(columns), 8) if len(columns) > least else [len(columns)]
    rows, called = [], truth
    for size in np.unique(np.rint(steps).astype(int)):
        used = columns[:size]
        for name, classifier in (
            ("random forest", RandomForestClassifier(200, random_state=0)),
            ("nearest neighbours", KNeighborsClassifier(min(15, len(x)))),
        ):
            found = classifier.fit(x[:, used], group).predict(tried[:, used])
            right = pd.Series(found == truth)
            rows.append({
                "n_genes": int(size), "classifier": name, "accuracy": float(right.mean()),
                "balanced_accuracy": float(right.groupby(truth).mean().mean()),
            })  # fmt: skip
            called = found if name == "random forest" else called
    pairs = pd.MultiIndex.from_product([range(len(names)), range(len(names))])
    counts = pd.Series(1, pd.MultiIndex.from_arrays([truth, called])).groupby(level=[0, 1]).sum().reindex(pairs, fill_value=0)  # fmt: skip
    label = np.array(names, dtype=object)
    confusion = pd.DataFrame({
        "group": label[pairs.get_level_values(0)], "predicted": label[pairs.get_level_values(1)],
        "n_cells": counts.to_numpy(),
    })  # fmt: skip
    return pd.DataFrame(rows), confusion
