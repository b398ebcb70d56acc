"""One panel for all groups."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi

import lucidvi as lv

QUIET = {"enable_progress_bar": False, "logger": None, "accelerator": "cpu"}


@pytest.fixture(scope="module")
def model():
    """Counts of four groups; g0 to g3 mark one each, g4 to g7 are copies of g0, m0 and m1 are mitochondrial and mark all."""
    rng = np.random.default_rng(0)
    n = 400
    group = rng.integers(0, 4, n)
    rate = np.full((n, 40), 2.0)
    for g in range(4):
        rate[group == g, g] = 12.0
    rate[:, 38:] = 5.0 * (1 + group[:, None])
    x = rng.poisson(rate)
    x[:, 4:8] = x[:, :1] + rng.poisson(0.1, (n, 4))
    adata = ad.AnnData(x.astype(np.float32))
    adata.var_names = [f"g{i}" for i in range(38)] + ["MT-1", "MT-2"]
    adata.obs["group"] = [f"T/{g}" for g in group]
    adata.obs["donor"] = rng.integers(0, 5, n).astype(str)
    scvi.settings.seed = 0
    scvi.model.SCVI.setup_anndata(adata)
    model = scvi.model.SCVI(adata, n_latent=4, n_hidden=32)
    model.train(40, train_size=0.7, **QUIET)
    return model


def panel(model, n=6, **options):
    return lv.explain.joint_panel(model, "group", n, progress=False, copy=True, **options)


def test_markers_are_chosen_and_copies_are_not(model):
    adata = panel(model, exclude=["MT-*"])
    genes = lv.get.joint_panel(adata)
    first = list(genes["gene"][:4])
    assert {"g1", "g2", "g3"} <= set(first) and len(
        {"g0", *(f"g{i}" for i in range(4, 8))} & set(first)
    ) == 1
    assert not genes["gene"].str.startswith("MT-").any()
    assert (
        genes.set_index("gene").loc[["g1", "g2", "g3"], "group"] == ["T/1", "T/2", "T/3"]
    ).sum() >= 2
    assert genes["gain"].sum() < 1
    assert list(adata.var_names[adata.var["joint_panel"]]) == sorted(
        genes["gene"], key=list(adata.var_names).index
    )
    scores = lv.get.joint_panel(adata, table="scores")
    last = scores[scores["n_genes"] == 6]
    assert (
        (last["accuracy"] > 0.8).all()
        and last["accuracy"].max() > 0.9
        and set(scores["classifier"])
        == {
            "random forest",
            "nearest neighbours",
        }
    )
    confusion = lv.get.joint_panel(adata, table="confusion")
    table = confusion.pivot(index="group", columns="predicted", values="n_cells")
    assert table.to_numpy().sum() == len(model.adata) - len(model.train_indices)
    assert np.trace(table) / table.to_numpy().sum() == pytest.approx(last["accuracy"].iloc[0])


def test_genes_that_are_demanded_given_and_limited(model):
    adata = panel(model, 5, force=["g30", "g31"], given=["g1"], max_expression=8.0)
    genes = lv.get.joint_panel(adata).set_index("gene")
    assert list(genes["origin"][:3]) == ["given", "forced", "forced"] and len(genes) == 6
    assert list(genes.index[:3]) == ["g1", "g30", "g31"]
    mean = np.asarray(model.adata.X).mean(0)
    assert mean[38:].min() > 8 and not genes.index.str.startswith("MT-").any()
    np.testing.assert_allclose(
        genes["expression"], model.adata.to_df().mean()[genes.index], rtol=0.1
    )


def test_at_least_some_genes_for_each_group(model):
    genes = lv.get.joint_panel(panel(model, 8, n_per_group=2))
    assert (genes["group"].value_counts() == 2).all() and genes["group"].nunique() == 4


def test_whole_donors_are_held_out(model):
    adata = panel(model, donor_key="donor")
    n = lv.get.joint_panel(adata, table="confusion")["n_cells"].sum()
    size = adata.obs["donor"].value_counts()
    assert n in {a + b for i, a in enumerate(size) for j, b in enumerate(size) if i < j}


def test_same_again_and_survives_a_file(model, tmp_path):
    one, two = panel(model), panel(model)
    one.write_h5ad(tmp_path / "panel.h5ad")
    again = ad.read_h5ad(tmp_path / "panel.h5ad")
    for table in ("genes", "scores", "confusion"):
        pd.testing.assert_frame_equal(
            lv.get.joint_panel(one, table=table), lv.get.joint_panel(two, table=table)
        )
        pd.testing.assert_frame_equal(
            lv.get.joint_panel(one, table=table), lv.get.joint_panel(again, table=table)
        )


def test_small_groups_are_left_out_with_a_row(model):
    adata = model.adata.copy()
    adata.obs["group"] = adata.obs["group"].astype(str)
    adata.obs.iloc[:4, adata.obs.columns.get_loc("group")] = "rare"
    found = lv.explain.joint_panel(model, "group", 5, adata=adata, progress=False, copy=True)
    assert list(found.uns["joint_panel"]["skipped"]["group"]) == ["rare"]
    assert "rare" not in set(lv.get.joint_panel(found, table="confusion")["group"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_genes": 3}, "n_genes=3 is too few .* 4 groups"),
        ({"n_genes": 7, "n_per_group": 2}, "Pass at least 8"),
        ({"n_genes": 4, "force": [f"g{i}" for i in range(5)]}, "5 forced"),
        ({"n_genes": 6, "force": ["lost"]}, "lost"),
        ({"n_genes": 6, "given": ["lost"]}, "lost"),
        ({"n_genes": 6, "exclude": ["RP[SL]*"]}, "matches none"),
        ({"n_genes": 6, "force": ["g1"], "exclude": ["g*"]}, "in force and in exclude"),
        ({"n_genes": 6, "include": ["g1", "g2"]}, "fewer than the 6"),
        ({"n_genes": 6, "min_expression": 1e6}, "Means lie between"),
        ({"n_genes": 6, "groups": ["T/9"]}, "T/9"),
    ],
)
def test_bad_input(model, options, said):
    with pytest.raises((ValueError, KeyError), match=said):
        lv.explain.joint_panel(model, "group", progress=False, **options)
    assert "joint_panel" not in model.adata.uns
