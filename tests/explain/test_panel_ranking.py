"""How genes of panels are ranked, what stands beside them, and panels within cell types."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
import scvi

import lucidvi as lv
from lucidvi.adapters import adapter
from lucidvi.algorithms._panel_problem import initial_gradient
from lucidvi.explain._cells import labels_of_cells
from lucidvi.explain.panel._problem import PanelOptions, prepare
from lucidvi.explain.panel._tables import merged

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
RECORDS = ("names", "scores", "signs", "logfoldchanges", "pvals", "pvals_adj", "against")


def planted(n=480, seed=0):
    """Counts of two types under two conditions; genes 0 and 1 rise in A, 0 and 2 in B, from ctrl to stim; 3 and 4 mark types."""
    rng = np.random.default_rng(seed)
    kind, condition = np.tile(["A", "B"], n // 2), np.repeat(["ctrl", "stim"], n // 2)
    rate = np.full((n, 30), 3.0)
    stim = condition == "stim"
    rate[stim, 0] = 15.0
    rate[stim & (kind == "A"), 1] = 15.0
    rate[stim & (kind == "B"), 2] = 15.0
    rate[kind == "A", 3], rate[kind == "B", 4] = 20.0, 20.0
    adata = ad.AnnData(rng.poisson(rate).astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(30)]
    adata.obs = pd.DataFrame(
        {"kind": kind, "condition": condition, "donor": [f"d{i % 5}" for i in rng.integers(0, 5, n)]},
        index=adata.obs_names,
    )  # fmt: skip
    return adata


@pytest.fixture(scope="module")
def ace():
    adata = lv.datasets.ace_simulation(300, 4, 10, 20, 20)
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=4, hidden=(32, 16))
    model.train(60, **QUIET)
    return model


@pytest.fixture(scope="module")
def vae():
    adata = planted()
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_latent=4, n_hidden=32)
    model.train(40, train_size=0.7, **QUIET)
    return model


def test_first_steps_towards_each_group_are_gradients(ace):
    function = adapter(ace)
    given = prepare(function, labels_of_cells(function, "group"), "group", 0)
    options = PanelOptions("gate", 2.0, np.ones(len(function.features), dtype=bool))
    group, others = given.groups[0], given.groups[1:]
    problem = given.problem([(group, "rest")], given.train, 50, options)
    for adaptive in (True, False):
        options.adaptive = adaptive
        found, names = given.toward_each(group, problem, options)
        assert names == others and found.max() == pytest.approx(1)
        for row, other in zip(found, others, strict=True):
            one = given.problem([(group, other)], given.train, 50, options)
            slope = (-initial_gradient(one)[0]).clamp_min(0).numpy()
            np.testing.assert_allclose(row / row.max(), slope / slope.max(), atol=1e-5)


def test_best_takes_the_better_rank_and_mean_the_sum():
    path = np.array([1.0, 0.8, 0.6, 0.4, 0.0])
    each = np.array([[0.0, 0.0, 0.1, 0.9, 0.0], [0.0, 0.0, 0.2, 0.1, 0.0]])
    best = merged(path, each, "best")
    assert list(np.argsort(-best, kind="stable")) == [0, 3, 1, 2, 4] and best[4] == 0
    mean = merged(path, each, "mean")
    assert (
        mean[3] == pytest.approx(0.4 + 1.0)
        and mean[2] == pytest.approx(0.6 + 0.15 / 0.5)
        and mean[4] == 0
    )


@pytest.mark.parametrize("merge", ["best", "mean"])
def test_panel_of_a_group_does_not_depend_on_the_others(ace, merge):
    options = {"progress": False, "copy": True, "merge": merge}
    together = lv.explain.gene_panel(ace, "group", **options)
    alone = lv.explain.gene_panel(ace, "group", groups="group_2", **options)
    for key in RECORDS:
        a, b = (x.uns["gene_panel"][key]["group_2"] for x in (together, alone))
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(
        together.varm["gene_panel"][:, 2], alone.varm["gene_panel"][:, 0], atol=1e-6
    )


def test_against_names_the_group_that_a_gene_separates(ace):
    adata = lv.explain.gene_panel(ace, "group", groups="group_0", progress=False, copy=True)
    result = adata.uns["gene_panel"]
    mean = adata.to_df().groupby(adata.obs["group"].astype(str)).mean()
    gap = (mean - mean.loc["group_0"]).abs()
    first = result["names"]["group_0"][:5]
    against = result["against"]["group_0"][:5]
    assert "group_0" not in against
    typical = [gap.loc[other, name] >= gap[name].drop("group_0").median() for name, other in zip(first, against, strict=True)]  # fmt: skip
    assert np.mean(typical) >= 0.8
    single = lv.explain.gene_panel(
        ace, "group", groups="group_0", reference="group_1", progress=False, copy=True
    )
    assert "against" not in single.uns["gene_panel"]


@pytest.mark.parametrize("reference", ["rest", "each", "other"])
@pytest.mark.parametrize("name", ["ace", "vae"])
def test_fold_changes_p_values_and_percentages_are_those_of_scanpy(name, reference, request):
    model = request.getfixturevalue(name)
    groupby = "group" if name == "ace" else "kind"
    adata = model.adata.copy()
    if name == "vae":
        sc.pp.normalize_total(adata, target_sum=1e4)
        sc.pp.log1p(adata)
    adata.obs[groupby] = adata.obs[groupby].astype(str).astype("category")
    groups = list(adata.obs[groupby].cat.categories)
    other = groups[1] if reference == "other" else reference
    found = lv.explain.gene_panel(
        model, groupby, groups=groups[0], reference=other, progress=False, copy=True
    )
    sc.tl.rank_genes_groups(
        adata, groupby, groups=[groups[0]], reference="rest" if reference == "each" else other, method="t-test", pts=True
    )  # fmt: skip
    columns = ["names", "logfoldchanges", "pvals", "pvals_adj", "pct_nz_group"]
    mine, theirs = (
        sc.get.rank_genes_groups_df(data, groups[0], key=key)[columns]
        .set_index("names")
        .sort_index()
        for data, key in ((found, "gene_panel"), (adata, "rank_genes_groups"))
    )
    pd.testing.assert_frame_equal(mine, theirs, check_dtype=False, rtol=1e-3, atol=1e-6)
    if reference == "other":  # scanpy filters by all other groups, whatever the reference
        return
    sc.tl.filter_rank_genes_groups(found, key="gene_panel", key_added="filtered", min_in_group_fraction=0.0, max_out_group_fraction=1.0, min_fold_change=0.5)  # fmt: skip
    kept = pd.Series(found.uns["filtered"]["names"][groups[0]]).dropna()
    assert set(kept) == set(mine.index[mine["logfoldchanges"] >= 0.5])


def test_negative_data_have_no_fold_changes():
    adata = ad.AnnData(np.random.default_rng(0).standard_normal((60, 5)).astype(np.float32))
    adata.obs["group"] = np.repeat(["a", "b"], 30)
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=2, hidden=(8,))
    model.train(2, **QUIET)
    lv.explain.gene_panel(model, "group", n_genes=2, progress=False)
    assert np.isnan(adata.uns["gene_panel"]["logfoldchanges"]["a"]).all()
    assert not np.isnan(adata.uns["gene_panel"]["pvals"]["a"]).any()


def test_followers_enter_late_with_an_adaptive_penalty():
    """Genes 2 to 9 follow gene 0 with noise; genes 0 and 1 alone make the groups."""
    rng = np.random.default_rng(0)
    group = np.repeat([0, 1], 200)
    x = rng.standard_normal((400, 30))
    x[:, 0] += 3 * group
    x[:, 1] += 2 * group
    x[:, 2:10] = 0.9 * x[:, :1] + 0.6 * rng.standard_normal((400, 8))
    adata = ad.AnnData((x - x.min(0)).astype(np.float32))
    adata.obs["group"] = group.astype(str)
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=3, hidden=(32, 16))
    model.train(60, **QUIET)
    place = {}
    for penalty in ("adaptive", "equal"):
        found = lv.explain.gene_panel(model, "group", groups="0", reference="rest", penalty=penalty, progress=False, copy=True)  # fmt: skip
        names = list(found.uns["gene_panel"]["names"]["0"])
        place[penalty] = names.index("0") + names.index("1")
        assert found.uns["gene_panel"]["params"]["penalty"] == penalty
    assert place["adaptive"] == 1 and place["equal"] > 1


def test_panels_of_conditions_within_types(vae):
    adata = lv.explain.gene_panel(vae, "condition", within="kind", groups="ctrl", reference="stim", donor_key="donor", progress=False, copy=True)  # fmt: skip
    result = adata.uns["gene_panel"]
    assert result["names"].dtype.names == ("A: ctrl", "B: ctrl")
    assert list(result["panels"]["reference"]) == ["A: stim", "B: stim"]
    assert set(result["names"]["A: ctrl"][:2]) == {"g0", "g1"}
    assert set(result["names"]["B: ctrl"][:2]) == {"g0", "g2"}
    assert (result["panels"]["flip_rate"] >= 0.9).all()
    own = adata[adata.obs["kind"] == "A"].copy()
    sc.pp.normalize_total(own, target_sum=1e4)
    sc.pp.log1p(own)
    sc.tl.rank_genes_groups(own, "condition", groups=["ctrl"], reference="stim", method="t-test")
    theirs = sc.get.rank_genes_groups_df(own, "ctrl").set_index("names")["logfoldchanges"]
    mine = sc.get.rank_genes_groups_df(adata, "A: ctrl", key="gene_panel").set_index("names")[
        "logfoldchanges"
    ]
    np.testing.assert_allclose(mine.sort_index(), theirs.sort_index(), rtol=1e-3, atol=1e-5)
    held_out = adata.obs["donor"][adata.obs["kind"] == "A"]
    n = result["panels"]["n_held_out"][0]
    per_donor = held_out[(adata.obs["condition"] == "ctrl").to_numpy()[(adata.obs["kind"] == "A").to_numpy()]].value_counts()  # fmt: skip
    assert n in {
        a + b for i, a in enumerate(per_donor) for j, b in enumerate(per_donor) if i < j
    }  # two of five donors, whole
    sc.pl.rank_genes_groups_dotplot(
        adata, key="gene_panel", n_genes=2, dendrogram=False, show=False
    )
    lv.explain.panel_confidence(vae, adata=adata, n_draws=1, progress=False)
    assert adata.uns["gene_panel"]["qvals"].dtype.names == ("A: ctrl", "B: ctrl")
    shared = lv.get.gene_panel(adata, n_genes=2).groupby("names")["group"].nunique()
    assert shared["g0"] == 2 and shared["g1"] == shared["g2"] == 1


def test_both_directions_and_types_without_a_reference(vae):
    adata = vae.adata.copy()
    adata.obs["kind"] = adata.obs["kind"].where(
        ~((adata.obs["kind"] == "B") & (adata.obs["condition"] == "stim"))
    )
    found = lv.explain.gene_panel(
        vae, "condition", within="kind", adata=adata, progress=False, copy=True
    )
    assert found.uns["gene_panel"]["names"].dtype.names == ("A: ctrl", "A: stim")
    assert list(found.uns["gene_panel"]["skipped"]["group"]) == ["B: ctrl"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"within": "condition"}, "is groupby, too"),
        ({"within": "lost"}, "lost"),
        ({"within": "kind", "reference": "none"}, "none"),
        ({"within": "kind", "groups": "stim", "reference": "stim"}, "No cell type"),
        ({"donor_key": "one"}, "has 1 donor"),
        ({"exclude": ["MT-*"]}, r"pattern 'MT-\*' matches none"),
        ({"include": ["g1?"], "exclude": ["g*"]}, "leave no gene"),
        ({"merge": "worst"}, "merge='worst' is unknown"),
        ({"penalty": "none"}, "penalty='none' is unknown"),
        ({"beta": 0}, "beta"),
        ({"alpha": -1.0}, "alpha"),
    ],
)
def test_bad_input(vae, options, said):
    adata = vae.adata.copy()
    adata.obs["one"] = "d"
    with pytest.raises((ValueError, KeyError), match=said):
        lv.explain.gene_panel(vae, "condition", adata=adata, progress=False, **options)
    assert "gene_panel" not in adata.uns


def test_patterns_and_stiffness(vae):
    adata = lv.explain.gene_panel(
        vae, "condition", exclude=["g[12]?", "g0"], alpha=0.5, beta=0.7, progress=False, copy=True
    )  # fmt: skip
    params = adata.uns["gene_panel"]["params"]
    assert (params["alpha"], params["beta"]) == (0.5, 0.7)
    used = adata.var_names[np.abs(adata.varm["gene_panel"]).sum(1) > 0]
    assert set(used) <= {f"g{i}" for i in range(1, 10)}
