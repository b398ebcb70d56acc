"""Do dimensions of a set beside scVI's space show conditions without moving types? Those of SCARE, and without training.

planted: blood cells of five types, half of each in a condition that keeps 60 % of the transcripts of forty genes of the
type; the set of a type are the 40 genes of its training cells that tell most about the condition. mixed: the same, but 20
genes are kept and the other 20 gain as many transcripts. half: the same as planted, with 20 of the set's genes replaced by
others. graded: cells keep from 60 to 100 %. a549: cells at three times after dexamethasone. mapk, nfkb: three batches of
blood cells, sets of the Gene Ontology, no condition. "SCARE" is its default, whose free part is SCVI's space, number for
number; "PCA" is :func:`lucidvi.explain.set_space` of the same model. ``--rivals``: the set's genes four times in the likelihood, the
paper's attribution loss, SCVI of the set's genes alone beside SCVI, and a score of the set beside SCVI. Accuracy of the condition among 15 neighbours in held-out cells,
within types; accuracy of types, and of types below 5 % of the cells; FSSF; excess of the own batch among 15 neighbours within types; fold changes of the
set's genes between planted conditions as the model decodes them, as a share of those of counts (``change``, of SCARE ``with_sets=True``). Claim: the joint space
of SCARE tells planted conditions apart at least .2 better than SCVI, with types within a point. Run with
``python benchmarks/scare_set_space.py [planted mixed half graded a549 mapk nfkb] [--seeds 0 1 2] [--rivals] [--save FOLDER]``;
``--save`` keeps the spaces for ``scare_scib.py``.
"""

import argparse
import warnings
from functools import partial

import anndata as ad
import numpy as np
import pandas as pd
import scanpy as sc
import scare_conditions
import scvi
import torch
from _cortex import data_file
from _report import finish
from scare_conditions import N_SET, QUIET, a549, informative
from scipy.sparse import csr_matrix
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors

import lucidvi as lv
from lucidvi.algorithms._set_space import near_distances, scale_beside

GO = {"mapk": "GO:0043410", "nfkb": "GO:1901224"}
CELLS_PER_TYPE = 700
EPOCHS = {"a549": 200}
PLANTED = ("planted", "mixed", "half", "graded")


def blood(kind: str, seed: int) -> ad.AnnData:
    """Cells of five types, ``type``, ``condition``; what is planted differs by kind."""
    source = ad.read_h5ad(data_file("scrna/kang_pbmc_8donors.h5ad"))
    rng = np.random.default_rng(seed)
    of = source.obs["cell_type"].astype(str)
    some = [rng.permutation(np.flatnonzero(of == t))[:CELLS_PER_TYPE] for t in of.value_counts().index[:5]]  # fmt: skip
    adata = source[np.sort(np.concatenate(some))]
    adata = ad.AnnData(csr_matrix(adata.X, dtype=np.float32), var=source.var[[]].assign(modality="rna"), obs=pd.DataFrame({"type": of[adata.obs_names]}))  # fmt: skip
    adata.obs["condition"] = rng.choice(["before", "after"], adata.n_obs)
    x, changed = adata.X.toarray(), np.zeros(adata.n_vars, dtype=bool)
    share = np.where(adata.obs["condition"] == "after", 0.6, 1.0)
    if kind == "graded":
        share = rng.uniform(0.6, 1.0, adata.n_obs)
        adata.obs["condition"] = np.where(share < 0.8, "after", "before")
    for name in adata.obs["type"].unique():
        own = np.flatnonzero(adata.obs["type"] == name)
        genes = rng.choice(np.argsort(-x[own].mean(0))[:300], N_SET, replace=False)
        down, up = (genes[::2], genes[1::2]) if kind == "mixed" else (genes, genes[:0])
        cut = np.ix_(own, down)
        x[cut] = rng.binomial(x[cut].astype(int), share[own][:, None])
        grown = np.ix_(own, up)
        x[grown] += rng.binomial(x[grown].astype(int), (1 - share[own][:, None]) / share[own][:, None])  # fmt: skip
        changed[genes] = True
    adata.X = csr_matrix(x)
    return adata[:, variable(adata, 1500) | changed].copy()


def variable(adata: ad.AnnData, n: int) -> np.ndarray:
    """Genes that vary most between all cells, boolean."""
    logged = sc.pp.log1p(sc.pp.normalize_total(adata, target_sum=1e4, copy=True), copy=True)
    found = sc.pp.highly_variable_genes(logged, n_top_genes=n, inplace=False)
    torch.set_num_threads(1)  # numba resets it
    return found["highly_variable"].to_numpy()


def batches(which: str) -> tuple[ad.AnnData, list[str]]:
    """Blood cells of three batches and the genes of a set."""
    adata = ad.read_h5ad(data_file("scrna/pbmc_3batches.h5ad"))
    adata.X = csr_matrix(adata.X, dtype=np.float32)
    sets = lv.datasets.gene_sets(data_file("genesets/go_bp_2021.gmt.gz"), {"s": GO[which]}, var_names=adata.var_names, min_share=0)  # fmt: skip
    adata = adata[:, variable(adata, 2000) | (sets["s"].to_numpy() & (np.asarray((adata.X > 0).sum(0)).ravel() >= 5))].copy()  # fmt: skip
    adata.obs["type"] = adata.obs["cell_type_marker"].astype(str)
    return adata, list(sets.index[sets["s"] & sets.index.isin(adata.var_names)])


def own_batch(z: np.ndarray, adata: ad.AnnData) -> float:
    """Share of the own batch among 15 neighbours, within types, less what chance gives."""
    excess, weight = [], []
    for _, rows in adata.obs.groupby("type", observed=True).indices.items():
        if len(rows) < 50:
            continue
        batch = adata.obs["batch"].to_numpy()[rows]
        near = NearestNeighbors(n_neighbors=16).fit(z[rows]).kneighbors(return_distance=False)[:, 1:]  # fmt: skip
        share = pd.Series(batch).map(pd.Series(batch).value_counts(normalize=True)).mean()
        excess.append((batch[near] == batch[:, None]).mean() - share)
        weight.append(len(rows))
    return float(np.average(excess, weights=weight))


def rare_types(z: np.ndarray, of: np.ndarray) -> float:
    """Share of a type's cells that 15 neighbours tell, mean over types of fewer than 5 % of the cells; NaN without."""
    names, sizes = np.unique(of, return_counts=True)
    rare = names[(sizes < 0.05 * len(of)) & (sizes >= 15)]
    told = cross_val_predict(KNeighborsClassifier(15), z, of, cv=StratifiedKFold(5, shuffle=True, random_state=0))  # fmt: skip
    return float(np.mean([(told[of == t] == t).mean() for t in rare])) if len(rare) else np.nan


class Beside:
    """A model with the set's coordinates beside its space, as :func:`lucidvi.metrics.fssf` asks for it."""

    def __init__(self, model, known: ad.AnnData, sets: dict, share: float, part: str):
        self.adata, self.model, self.known, self.sets, self.share, self.part = model.adata, model, known, sets, share, part  # fmt: skip

    def get_latent_representation(self, adata: ad.AnnData, **_) -> np.ndarray:
        """Embed cells together with the known ones, which alone have a type to learn from."""
        both = ad.concat({"known": self.known, "asked": adata}, index_unique="-", label="part")
        both.obs["known"] = both.obs["type"].where(both.obs["part"] == "known")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lv.explain.set_space(self.model, self.sets, groupby="known", adata=both, share=self.share)  # fmt: skip
        return both.obsm["set_space_s" if self.part == "block" else "set_space"][self.known.n_obs :]


def one(kind: str, seed: int) -> list[dict]:
    """A row for each space."""
    fssf_genes: list[str] | None = None
    rng = np.random.default_rng(seed)
    if kind in GO:
        adata, fssf_genes = batches(kind)
        sets: dict = {"s": fssf_genes}
    else:
        adata = a549() if kind == "a549" else blood(kind, seed)
    order = rng.permutation(adata.n_obs)
    test, train = np.sort(order[: adata.n_obs // 5]), np.sort(order[adata.n_obs // 5 :])
    of = adata.obs["type"].to_numpy()
    if kind == "a549":
        fssf_genes = list(adata.var_names[informative(adata, train)])
        sets = {"s": fssf_genes}
    if kind in PLANTED:
        by_type = {t: list(adata.var_names[informative(adata, train[of[train] == t])]) for t in np.unique(of)}  # fmt: skip
        if kind == "half":
            free = np.setdiff1d(adata.var_names, sum(by_type.values(), []))
            by_type = {t: g[: N_SET // 2] + list(rng.choice(free, N_SET // 2, replace=False)) for t, g in by_type.items()}  # fmt: skip
        sets = {"s": by_type}
    free = np.setdiff1d(adata.var_names, sum(sets["s"].values(), []) if isinstance(sets["s"], dict) else sets["s"])  # fmt: skip
    drawn = lambda genes: list(rng.choice(free, len(genes), replace=False))
    random = {"s": {t: drawn(g) for t, g in sets["s"].items()} if isinstance(sets["s"], dict) else drawn(sets["s"])}  # fmt: skip
    fit = adata[train].copy()
    model = train_scare(fit, sets["s"], kind, seed)
    other = train_scare(fit.copy(), random["s"], kind, seed)
    of_scare = {"SCVI": (model, {"part": "free"})}
    for name, one_model in (("SCARE", model), ("random set, SCARE", other)):
        of_scare |= {
            f"{name}, r=1": (one_model, {"share": 1.0}), f"{name}, r=4": (one_model, {"share": 4.0}),
            f"{name}, block": (one_model, {"part": one_model.set_names[0]}),
        }  # fmt: skip
    spaces = {name: m.get_latent_representation(adata, **o) for name, (m, o) in of_scare.items()}
    beside: dict = {name: (m, o) for name, (m, o) in of_scare.items()}
    everything = adata.copy()
    everything.obs["known"] = everything.obs["type"].where(np.isin(np.arange(adata.n_obs), train))
    for name, share in (("PCA, r=1", 1.0), ("PCA, r=4", 4.0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lv.explain.set_space(model, sets, groupby="known", adata=everything, share=share)
        spaces[name] = everything.obsm["set_space"]
        beside[name] = Beside(model, fit, sets, share, "joint"), {}
        spaces["PCA, block"] = everything.obsm["set_space_s"]
        beside["PCA, block"] = Beside(model, fit, sets, share, "block"), {}
    if args.rivals:
        spaces |= rivals(adata, fit, sets["s"], spaces["SCVI"], kind, seed)
    rows = []
    for name, z in spaces.items():
        row = {"data": kind, "space": name}
        if "condition" in adata.obs:
            table = lv.metrics.separation(z, adata.obs["condition"], of, train=train, test=test)
            row["condition"] = np.average(table["accuracy"], weights=table["n_cells"])
        if len(np.unique(of)) > 1:
            row["types"] = lv.metrics.knn_accuracy(z, of, n_neighbors=15)
            row["rare types"] = rare_types(z, of)
        if kind in GO:
            row["own batch"] = own_batch(z, adata)
        if fssf_genes and name in beside:
            asked, options = beside[name]
            fssf = partial(lv.metrics.fssf, groupby="type", n_null=0, progress=False, seed=seed)
            row["FSSF"] = fssf(asked, genes=fssf_genes, adata=fit, latent_kwargs=options)["fssf"].mean()  # fmt: skip
        if kind in PLANTED and name in ("SCVI", "SCARE, r=1"):
            row["change"] = decoded_change(model, adata, sets["s"], with_sets=name != "SCVI")
        rows.append(row)
    if "condition" in adata.obs:
        by = sets["s"] if isinstance(sets["s"], dict) else {"A549": sets["s"]}
        masks = {t: adata.var_names.isin(genes) for t, genes in by.items()}
        found = scare_conditions.ceilings(adata, masks, train, test)
        rows.append(
            {"data": kind, "space": "classifier of the set", "condition": found["ceiling_set"]}
        )
    if args.save:
        np.savez(f"{args.save}/{kind}_{seed}.npz", type=of.astype(str), batch=adata.obs.get("batch", pd.Series("one", adata.obs_names)).to_numpy().astype(str), **spaces)  # fmt: skip
    return rows


def decoded_change(model, adata: ad.AnnData, sets: dict[str, list[str]], *, with_sets: bool) -> float:  # fmt: skip
    """Fold changes of the sets' genes between conditions as decoded, as a share of those of counts: a slope, mean over types."""
    slopes = []
    for name, genes in sets.items():
        cells = np.flatnonzero(adata.obs["type"] == name)
        after = (adata.obs["condition"] == "after").to_numpy()[cells]
        decoded = model.get_normalized_expression(adata, cells, with_sets=with_sets)[genes]
        counted = adata[cells].to_df().div(adata[cells].X.sum(1), axis=0)[genes]
        true, found = (np.log2(e[after].mean() / e[~after].mean()) for e in (counted, decoded))
        some = np.isfinite(true)
        slopes.append((true * found)[some].sum() / np.square(true[some]).sum())
    return float(np.mean(slopes))


def train_scare(
    fit: ad.AnnData, given: dict | list, kind: str, seed: int, **options
) -> lv.model.SCARE:
    """Train SCARE with a set, or one for each type."""
    if isinstance(given, dict):
        fit.varm["s"] = pd.DataFrame({t: fit.var_names.isin(g) for t, g in given.items()}, index=fit.var_names)  # fmt: skip
    else:
        fit.var["s"] = fit.var_names.isin(given)
    scvi.settings.seed = seed
    lv.model.SCARE.setup_anndata(fit, batch_key="batch" if kind in GO else None, labels_key="type", feature_set_key="s")  # fmt: skip
    model = lv.model.SCARE(fit, gene_likelihood="nb", **options)
    model.train(EPOCHS.get(kind, 60), train_size=0.9, **QUIET)
    return model


def rivals(adata: ad.AnnData, fit: ad.AnnData, given: dict | list, z: np.ndarray, kind: str, seed: int) -> dict[str, np.ndarray]:  # fmt: skip
    """Spaces of other ways to make a model listen to a set."""
    found = {}
    for steering, name in (("likelihood", "likelihood x4"), ("attribution", "attribution loss")):
        model = train_scare(fit.copy(), given, kind, seed, steering=steering)
        found[name] = model.get_latent_representation(adata)
    genes = sorted(set(sum(given.values(), []))) if isinstance(given, dict) else given
    part = fit[:, genes].copy()
    scvi.settings.seed = seed
    scvi.model.SCVI.setup_anndata(part, batch_key="batch" if kind in GO else None)
    small = scvi.model.SCVI(part, gene_likelihood="nb", n_latent=5)
    small.train(EPOCHS.get(kind, 60), train_size=0.9, **QUIET)
    own = {"SCVI of the set": small.get_latent_representation(adata[:, genes].copy())}
    logged = sc.pp.log1p(sc.pp.normalize_total(adata, target_sum=1e4, copy=True), copy=True)
    score = np.zeros(adata.n_obs)
    for name, rows in adata.obs.groupby("type", observed=True).indices.items():
        sc.tl.score_genes(logged, given[name] if isinstance(given, dict) else given, random_state=seed)  # fmt: skip
        score[rows] = logged.obs["score"].to_numpy()[rows]
    torch.set_num_threads(1)  # numba resets it
    own["score_genes"] = score[:, None]
    for name, block in own.items():
        scale = scale_beside(*near_distances([z, block], 15, np.random.default_rng(seed)), 1.0)
        found |= {f"{name}, alone": block, f"{name}, r=1": np.concatenate([z, scale * block], 1)}
    return found


def main() -> None:
    """Table by data and space."""
    rows = []
    for kind in args.parts:
        for seed in args.seeds:
            rows += one(kind, seed)
            print(kind, seed, pd.DataFrame(rows).query("data == @kind").tail(20).round(3).to_string(), flush=True)  # fmt: skip
    table = pd.DataFrame(rows).groupby(["data", "space"], sort=False).agg(["mean", "sem"])
    print(table.round(3).to_string())
    mean, goals = table.xs("mean", axis=1, level=1), {}
    for kind in args.parts:
        joint, plain = mean.loc[(kind, "SCARE, r=1")], mean.loc[(kind, "SCVI")]
        if kind in PLANTED:
            goals[f"{kind}: condition, r=1 - SCVI"] = (round(float(joint["condition"] - plain["condition"]), 4), ">=", 0.2)  # fmt: skip
            goals[f"{kind}: types, SCVI - r=1"] = (round(float(plain["types"] - joint["types"]), 4), "<=", 0.01)  # fmt: skip
        if kind == "a549":
            goals["a549: condition, block"] = (round(float(mean.loc[(kind, "SCARE, block")]["condition"]), 4), ">=", 0.76)  # fmt: skip
            goals["a549: SCVI - r=1"] = (round(float(plain["condition"] - joint["condition"]), 4), "<=", 0.015)  # fmt: skip
        if kind in GO:
            goals[f"{kind}: own batch, r=1 - SCVI"] = (round(float(joint["own batch"] - plain["own batch"]), 4), "<=", 0.0)  # fmt: skip
        if kind in GO or kind == "a549":
            goals[f"{kind}: FSSF, block"] = (round(float(mean.loc[(kind, "SCARE, block")]["FSSF"]), 4), ">=", 0.6)  # fmt: skip
    flat = table.reset_index()
    flat.columns = [" ".join(c).strip() for c in flat.columns]
    finish({"benchmark": "scare_set_space", "seeds": args.seeds, "table": flat.round(4).to_dict("records")}, goals, save=True)  # fmt: skip


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=[*PLANTED, "a549", *GO])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--rivals", action="store_true", help="other ways, too")
    parser.add_argument("--save", help="folder for the spaces")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    scare_conditions.THREADS = 1
    torch.set_num_threads(1)
    main()
