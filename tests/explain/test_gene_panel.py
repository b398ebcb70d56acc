"""Gene panels: what they hold, on which models, and what scanpy makes of them."""

import anndata as ad
import matplotlib.pyplot as plt
import mudata as md
import numpy as np
import pytest
import scanpy as sc
import scipy.sparse as sp
import scvi
import torch

import lucidvi as lv
from lucidvi.adapters import adapter

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}
GROUPS = ["B", "NK", "T"]


def simulate(n_cells=240, n_genes=40, seed=0):
    """Counts of three groups: genes 0-2 mark B, 3-5 NK, 6-8 T; gene 9 is missing in T only."""
    rng = np.random.default_rng(seed)
    group = np.repeat(GROUPS, n_cells // 3)
    rate = np.full((n_cells, n_genes), 2.0)
    for i, name in enumerate(GROUPS):
        rate[np.ix_(group == name, range(3 * i, 3 * i + 3))] = 12.0
    rate[group == "T", 9] = 0.05
    rate[group != "T", 9] = 8.0
    adata = ad.AnnData(sp.csr_matrix(rng.poisson(rate).astype(np.float32)))
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    adata.obs["group"] = group
    adata.obs["batch"] = np.tile(["x", "y"], n_cells // 2)
    return adata


@pytest.fixture(scope="module")
def model():
    adata = simulate()
    adata.X = np.log1p(adata.X.toarray())
    scvi.settings.seed = 0
    lv.model.ACE.setup_anndata(adata, labels_key="group")
    model = lv.model.ACE(adata, n_latent=4, hidden=(32, 16))
    model.train(60, **QUIET)
    lv.explain.gene_panel(model, "group", progress=False, n_bootstrap=2)
    return model


def test_panels_hold_the_markers_with_their_signs(model):
    result = model.adata.uns["gene_panel"]
    for i, group in enumerate(GROUPS):
        own = {f"g{j}" for j in range(3 * i, 3 * i + 3)}
        assert set(result["names"][group][:3]) & own
    sign = dict(zip(result["names"]["T"], result["signs"]["T"], strict=True))
    assert sign["g9"] == -1 and sign["g6"] == sign["g7"] == 1
    assert list(result["names"]["T"]).index("g9") < 6
    panels = result["panels"].set_index("group")
    assert (panels["flip_rate"] >= 0.95).all() and (panels["n_genes"] <= 20).all()
    assert (panels["flip_rate_random"] < panels["flip_rate"]).all()


def test_stored_change_flips_held_out_cells(model):
    """The change in varm, added to the scaled input of whole cells, by the model's own predict."""
    delta = model.adata.varm["gene_panel"]
    held_out = np.setdiff1d(np.arange(model.adata.n_obs), model.train_indices)
    labels = model.adata.obs["group"].to_numpy()
    u = model.module.scaled(torch.from_numpy(model.adata.X))
    for g, group in enumerate(GROUPS):
        cells = held_out[labels[held_out] == group]
        with torch.no_grad():
            # stored in standard deviations of what the first layer reads
            std = u[model.train_indices].std(0, correction=0)
            z = model.module.encode(u[cells] + torch.from_numpy(delta[:, g]) * std)
        left = model.neural_kmeans().predict(z) != list(model.centroids_.index).index(group)
        stored = model.adata.uns["gene_panel"]["panels"].set_index("group").loc[group, "flip_rate"]
        assert left.float().mean() == pytest.approx(stored, abs=0.1)


def test_layout_is_that_of_scanpy(model, tmp_path):
    model.adata.write_h5ad(tmp_path / "panel.h5ad")
    again = ad.read_h5ad(tmp_path / "panel.h5ad")
    for adata in (model.adata, again):
        table = sc.get.rank_genes_groups_df(adata, None, key="gene_panel")
        assert set(table["group"]) == set(GROUPS)
        assert (
            table.groupby("group", observed=True)["scores"]
            .apply(lambda s: s.is_monotonic_decreasing)
            .all()
        )
        for name in (
            "",
            "_dotplot",
            "_heatmap",
            "_violin",
            "_stacked_violin",
            "_matrixplot",
            "_tracksplot",
        ):
            draw = getattr(sc.pl, f"rank_genes_groups{name}")
            options = {} if name in ("", "_violin") else {"dendrogram": False}
            draw(adata, key="gene_panel", n_genes=3, show=False, **options)
            plt.close("all")
    np.testing.assert_array_equal(again.varm["gene_panel"], model.adata.varm["gene_panel"])


def test_path_grows_and_bootstrap_counts(model):
    result = model.adata.uns["gene_panel"]
    for _, part in result["path"].groupby("group"):
        assert part["penalty"].is_monotonic_decreasing
        assert part["n_features"].iloc[-1] >= part["n_features"].iloc[0]
    frequency = result["selection_frequency"]
    for group in frequency.dtype.names:
        assert np.isin(frequency[group], [0.0, 0.5, 1.0]).all() and frequency[group].max() == 1


@pytest.mark.parametrize("name", ["SCVI", "SCANVI", "LinearSCVI", "PEAKVI", "SIVAE"])
def test_any_vae(name):
    scvi.settings.seed = 0
    adata = simulate(n_cells=150)
    if name == "SIVAE":
        lv.model.SIVAE.setup_anndata(adata, batch_key="batch")
        model = lv.model.SIVAE(adata, n_latent=3, hidden=(16, 8), gene_likelihood="nb")
    else:
        cls = getattr(scvi.model, name)
        options = {"labels_key": "group", "unlabeled_category": "?"} if name == "SCANVI" else {}
        cls.setup_anndata(adata, batch_key="batch", **options)
        model = cls(adata, n_latent=3, n_hidden=16)
    model.train(20, train_size=0.7, **QUIET)
    lv.explain.gene_panel(model, "group", groups=["T", "B"], progress=False, n_steps=8, n_null=2)
    assert adata.uns["gene_panel"]["names"].dtype.names == ("T", "B")


def test_one_vs_one_excluded_genes_and_wanted_size(model):
    adata = lv.explain.gene_panel(
        model, "group", groups="T", reference="NK", n_genes=15, exclude=["g9", "g3"], progress=False, copy=True
    )  # fmt: skip
    result = adata.uns["gene_panel"]
    assert result["params"]["reference"] == "NK"
    assert not {"g9", "g3"} & set(result["names"]["T"][:15])
    assert adata.varm["gene_panel"][9] == 0
    assert (result["scores"]["T"] > 0).sum() >= 15


def test_free_change_goes_anywhere(model):
    adata = lv.explain.gene_panel(model, "group", perturbation="free", progress=False, copy=True)
    result = adata.uns["gene_panel"]
    assert (result["panels"]["flip_rate"] >= 0.95).all() and (
        result["panels"]["n_genes"] <= 10
    ).all()
    gap = adata.to_df().groupby(adata.obs["group"]).mean()
    limit = 2 * (gap.max() - gap.min()) / adata.to_df().std()  # what a gate can reach at most
    assert (np.abs(adata.varm["gene_panel"]).max(1) > limit).any()


def test_same_seed_same_panel(model):
    first, second = (
        lv.explain.gene_panel(model, "group", progress=False, n_steps=6, copy=True)
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.varm["gene_panel"], second.varm["gene_panel"])


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"groupby": "groups"}, KeyError, "Did you mean 'group'"),
        ({"groups": ["Bcell"]}, ValueError, "'Bcell' is unknown"),
        ({"reference": "mono"}, ValueError, "reference='mono' is neither"),
        ({"n_genes": 41}, ValueError, "n_genes=41 is more than the 40"),
        ({"n_genes": 2.5}, TypeError, "n_genes=2.5"),
        ({"perturbation": "box"}, ValueError, "perturbation='box'"),
        ({"exclude": ["CD3"]}, ValueError, r"Gene \(exclude\) 'CD3' is unknown"),
        ({"flip_rate": 1.5}, ValueError, "flip_rate=1.5"),
        ({"include": ["g1", "CD3"]}, ValueError, r"Gene \(include\) 'CD3' is unknown"),
        ({"bounds": (1, 0)}, ValueError, "bounds=\\(1, 0\\) must be"),
        ({"per_cell": True, "n_bootstrap": 3}, ValueError, "n_bootstrap=3 and per_cell=True"),
        ({"bounds": "box"}, ValueError, "bounds='box' must be"),
    ],
)
def test_bad_arguments(model, options, error, match):
    with pytest.raises(error, match=match):
        lv.explain.gene_panel(model, **{"groupby": "group", "progress": False, **options})


@pytest.mark.parametrize("n", [1, 5])
def test_small_and_single_groups(model, n):
    model.adata.obs["other"] = ["few"] * n + ["many"] * (240 - n)
    with (
        pytest.warns(UserWarning, match=rf"fewer than 6 cells are left out.*'few' \({n}\)"),
        pytest.raises(ValueError, match="has 1 groups of at least 6 cells"),
    ):
        lv.explain.gene_panel(model, "other")
    model.adata.obs["other"] = "one"
    with pytest.raises(ValueError, match="a single group, 'one'"):
        lv.explain.gene_panel(model, "other")
    del model.adata.obs["other"]


def test_per_cell_changes_take_each_cell_across(model):
    adata = lv.explain.gene_panel(
        model, "group", groups="T", reference="NK", per_cell=True, n_cells=15, bounds="observed",
        progress=False, copy=True,
    )  # fmt: skip
    change, result = adata.layers["gene_panel"], adata.uns["gene_panel"]
    cells = np.flatnonzero(change.getnnz(axis=1))
    assert 10 <= len(cells) <= 15 and (adata.obs["group"].iloc[cells] == "T").all()
    moved = adata.copy()
    moved.X = adata.X + change.toarray()
    share = (model.predict(moved).iloc[cells] == "NK").mean()
    assert share == pytest.approx(result["panels"]["flip_rate"][0]) and share >= 0.9
    learned = adata.X[model.train_indices]
    assert (moved.X[cells] <= np.maximum(learned.max(0), adata.X[cells]) + 1e-4).all()
    assert (moved.X[cells] >= np.minimum(learned.min(0), adata.X[cells]) - 1e-4).all()
    assert len(np.unique(change[cells].toarray(), axis=0)) > 1
    panels = result["panels"].iloc[0]
    assert panels["n_genes"] == pytest.approx(change.getnnz() / panels["n_learned"])
    assert panels["flip_rate_random"] < 0.5
    path = result["path"]
    assert list(path["group"].unique()) == ["T"] and path["flip_rate"].is_monotonic_increasing
    mean = np.abs(adata.varm["gene_panel"][:, 0])
    assert set(result["names"]["T"][:3]) & {adata.var_names[i] for i in np.argsort(-mean)[:4]}


@pytest.mark.parametrize("bounds", ["observed", (0.0, 3.0)])
def test_bounds_hold_for_the_mean_of_the_group(model, bounds):
    adata = lv.explain.gene_panel(model, "group", perturbation="free", bounds=bounds, progress=False, copy=True)  # fmt: skip
    learned = adata[model.train_indices]
    mean = learned.to_df().groupby(learned.obs["group"].to_numpy()).mean()
    end = mean.T.to_numpy() + adata.varm["gene_panel"] * learned.X.std(0)[:, None]
    low, high = (learned.X.min(0)[:, None], learned.X.max(0)[:, None]) if bounds == "observed" else bounds  # fmt: skip
    assert (end >= low - 1e-3).all() and (end <= high + 1e-3).all()
    assert (adata.varm["gene_panel"] != 0).any(0).all()


def test_only_included_genes(model):
    kept = ["g6", "g7", "g8", "g9", "g20"]
    adata = lv.explain.gene_panel(model, "group", groups="T", include=kept, progress=False, copy=True)  # fmt: skip
    assert set(adata.var_names[adata.varm["gene_panel"][:, 0] != 0]) <= set(kept)
    with pytest.raises(ValueError, match="n_genes=6 is more than the 5"):
        lv.explain.gene_panel(model, "group", include=kept, n_genes=6)


def test_free_signs_follow_the_change(model):
    adata = lv.explain.gene_panel(model, "group", perturbation="free", progress=False, copy=True)
    result = adata.uns["gene_panel"]
    for g, group in enumerate(GROUPS):
        sign = dict(zip(result["names"][group], result["signs"][group], strict=True))
        for i in np.flatnonzero(adata.varm["gene_panel"][:, g]):
            assert sign[f"g{i}"] == -np.sign(adata.varm["gene_panel"][i, g])


def totalvi():
    mdata = md.MuData({"rna": simulate(150), "protein": simulate(150, 12, seed=1)})
    for part in mdata.mod.values():
        part.X = part.X.toarray()
    mdata.obs["group"] = mdata["rna"].obs["group"]
    scvi.model.TOTALVI.setup_mudata(
        mdata, batch_key=None, rna_layer=None, protein_layer=None,
        modalities={"rna_layer": "rna", "protein_layer": "protein"},
    )  # fmt: skip
    return mdata, scvi.model.TOTALVI(mdata, n_latent=3, empirical_protein_background_prior=False)


def sivae_of_mudata():
    mdata = md.MuData({"rna": simulate(150)})
    lv.model.SIVAE.setup_mudata(mdata)
    return mdata, lv.model.SIVAE(mdata, n_latent=3, hidden=(16, 8), gene_likelihood="nb")


@pytest.mark.filterwarnings("ignore:.*")
@pytest.mark.parametrize("build", [totalvi, sivae_of_mudata])
def test_mudata(build, tmp_path):
    scvi.settings.seed = 0
    mdata, model = build()
    model.train(10, train_size=0.7, **QUIET)
    lv.explain.gene_panel(model, "group", progress=False, n_steps=8, n_null=2)
    assert list(mdata["rna"].uns["gene_panel"]["panels"]["group"]) == GROUPS
    mdata.write_h5mu(tmp_path / "panel.h5mu")
    again = md.read_h5mu(tmp_path / "panel.h5mu")["rna"]
    assert len(sc.get.rank_genes_groups_df(again, None, key="gene_panel")) == 3 * 40
    sc.pl.rank_genes_groups_dotplot(again, key="gene_panel", n_genes=2, dendrogram=False, show=False)  # fmt: skip
    plt.close("all")


def test_untrained():
    adata = simulate(60)
    scvi.model.SCVI.setup_anndata(adata)
    with pytest.raises(RuntimeError, match="not trained"):
        lv.explain.gene_panel(scvi.model.SCVI(adata), "group")


def test_a_panel_moves_the_joint_position_of_several_modalities(fitted):
    """The change of the genes, added to their counts, takes cells across where MULTIVI itself puts them."""
    model = fitted("MULTIVI")
    mdata = lv.explain.gene_panel(model, "batch", n_steps=10, n_null=2, progress=False, copy=True)
    rna, result = mdata["rna"], mdata["rna"].uns["gene_panel"]
    group = result["names"].dtype.names[0]
    function = adapter(model, modality="rna")
    labels, held_out = rna.obs["batch"].astype(str), function.held_out_cells
    z = model.get_latent_representation()
    learned = {g: np.intersect1d(np.flatnonzero(labels == g), function.train_cells) for g in labels.unique()}  # fmt: skip
    centers = {g: z[cells].mean(0) for g, cells in learned.items()}
    std = rna.X.toarray()[function.train_cells].std(0)
    cells = np.intersect1d(np.flatnonzero(labels == group), held_out)
    tensors = function.minibatch(cells)
    moved = function.values(tensors) + torch.from_numpy(rna.varm["gene_panel"][:, 0] * std).float()
    moved = function.evaluate(moved, tensors, "latent").numpy()
    apart = np.stack([np.linalg.norm(moved - center, axis=1) for center in centers.values()])
    left = np.array(list(centers))[apart.argmin(0)] != group
    assert left.mean() == pytest.approx(result["panels"]["flip_rate"].iloc[0], abs=0.15)


def test_peaks_whose_first_layer_is_no_matrix_are_refused(fitted):
    with pytest.raises(TypeError, match="Sets of peaks explain the expression that GRIDS predicts"):
        lv.explain.gene_panel(fitted("GRIDS"), "cell_type", modality="atac", progress=False)
    mdata = lv.explain.gene_panel(fitted("GRIDS"), "cell_type", progress=False, n_steps=3, n_null=1, copy=True)  # fmt: skip
    assert "gene_panel" in mdata["rna"].uns  # genes, by default
