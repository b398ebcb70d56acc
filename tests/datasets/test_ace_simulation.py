import anndata as ad
import numpy as np
import pandas as pd
import pytest

import lucidvi as lv

make = lv.datasets.ace_simulation


def columns(adata, kind):
    return adata.X[:, (adata.var["kind"] == kind).to_numpy()].astype(float)


def group_minus_rest(x, group):
    return np.stack(
        [x[group == g].mean(axis=0) - x[group != g].mean(axis=0) for g in np.unique(group)], axis=1
    )


def test_defaults_are_those_of_the_paper():
    adata = make()
    assert adata.shape == (500, 220)
    assert adata.X.dtype == np.float32
    assert adata.X.min() == 0
    assert adata.obs["group"].value_counts().tolist() == [100] * 5
    sizes = {"causal": 20, "dependent": 100, "noise": 100}
    assert adata.var["kind"].value_counts(sort=False).to_dict() == sizes
    assert list(adata.obs) == ["group"]
    assert adata.uns["truth"]["complexity"] == "clean"
    names = [f"{kind}_{i}" for kind, size in sizes.items() for i in range(size)]
    assert list(adata.var_names) == names


@pytest.mark.parametrize("n_cells", [20_000, 20_003])
def test_effects_are_the_differences_of_many_cells(n_cells):
    adata = make(n_cells, n_dependent=30, n_noise=10, seed=3)
    seen = group_minus_rest(adata.X.astype(float), adata.obs["group"].to_numpy())
    effect = adata.varm["effect"]
    assert list(effect.columns) == list(adata.obs["group"].cat.categories)
    np.testing.assert_allclose(effect, seen, atol=0.12)
    assert (effect.to_numpy()[adata.var["kind"] == "noise"] == 0).all()
    kind = adata.var["kind"].to_numpy()
    within = adata.to_df().groupby(adata.obs["group"].to_numpy()).var().mean()
    np.testing.assert_allclose(within[kind == "causal"], 0.6**2, rtol=0.05)
    np.testing.assert_allclose(within[kind == "noise"], 1, rtol=0.05)


def test_every_causal_gene_differs_between_two_groups():
    for seed in range(5):
        effect = make(40, n_groups=2, n_causal=50, seed=seed).varm["effect"][:50]
        assert (np.abs(effect) > 0.8 * np.log(2)).to_numpy().all()


@pytest.mark.parametrize("complexity", ["clean", "complex"])
def test_dependent_genes_are_weighted_sums(complexity):
    adata = make(5000, complexity=complexity)
    weights = adata.varm["weights"]
    np.testing.assert_array_equal(weights[:20], np.eye(20))
    assert not weights[120:].any()
    weights = weights[20:120]
    terms = (weights != 0).sum(axis=1)
    assert set(terms) == set(range(1, 11))
    used = weights[weights != 0]
    assert used.min() >= 0.01
    assert used.max() <= 0.8
    assert used.mean() == pytest.approx(0.405, abs=0.04)
    # What is left of them is standard normal and independent of every causal gene.
    causal = columns(adata, "causal")
    left = columns(adata, "dependent") - causal @ weights.T
    np.testing.assert_allclose(left.std(axis=0), 1, atol=0.05)
    r = np.corrcoef(np.c_[causal, left].T)[:20, 20:]
    assert np.abs(r).max() < 5 / np.sqrt(5000)


def test_complex_data_are_the_clean_ones_disturbed():
    clean, disturbed = make(2000, seed=1), make(2000, complexity="complex", seed=1)
    for key in ("effect", "weights"):
        np.testing.assert_array_equal(clean.varm[key], disturbed.varm[key])
    assert clean.obs["group"].equals(disturbed.obs["group"])
    own = (clean.var["kind"] != "dependent").to_numpy()
    before, after = clean.X[:, own].astype(float), disturbed.X[:, own].astype(float)
    assert (after == 0).mean() == pytest.approx(0.3, abs=0.01)
    assert (before == 0).mean() < 0.01
    # In one batch, values that are kept differ from the clean ones by a constant for each gene.
    shifts = []
    for batch in ("batch_0", "batch_1"):
        cells = (disturbed.obs["batch"] == batch).to_numpy()
        difference = np.where(after[cells] > 0, after[cells] - before[cells], np.nan)
        assert np.nanstd(difference, axis=0).max() < 1e-5
        shifts.append(np.nanmean(difference, axis=0))
    # A difference of two shifts from N(0, 0.5^2).
    assert np.std(shifts[1] - shifts[0]) == pytest.approx(0.5 * np.sqrt(2), rel=0.2)


def test_low_values_are_lost_more_often():
    options = {"complexity": "complex", "batch_sd": 0, "seed": 2}
    kept = columns(make(5000, dropout=0, **options), "noise").ravel()
    lost = columns(make(5000, dropout=0.5, **options), "noise").ravel() == 0
    share = [lost[cells].mean() for cells in np.array_split(kept.argsort(), 5)]
    assert np.all(np.diff(share) < -0.02)
    np.testing.assert_array_equal(
        make(300, dropout=0, **options).X,
        make(300, seed=2).X,
    )


def test_directions_survive_in_complex_data():
    adata = make(complexity="complex")
    causal = (adata.var["kind"] == "causal").to_numpy()
    seen = group_minus_rest(adata.X.astype(float), adata.obs["group"].to_numpy())[causal]
    effect = adata.varm["effect"].to_numpy()[causal]
    clear = np.abs(effect) > 0.3
    assert (np.sign(seen) == np.sign(effect))[clear].mean() > 0.98


def test_seed():
    one, again, other = make(30, seed=1), make(30, seed=1), make(30, seed=2)
    np.testing.assert_array_equal(one.X, again.X)
    assert not np.array_equal(one.X, other.X)
    assert not np.array_equal(make(30, seed=None).X, make(30, seed=None).X)


def test_few_genes_and_cells():
    adata = make(2, 2, 1, 0, 0)
    assert adata.shape == (2, 1)
    adata = make(9, 4, 3, 5, 0, n_batches=1, complexity="complex", dropout=0.95)
    assert adata.shape == (9, 8)
    assert (adata.obs["batch"] == "batch_0").all()
    assert np.isfinite(adata.X).all()


def test_round_trip(tmp_path):
    adata = make(20, complexity="complex")
    adata.write_h5ad(tmp_path / "ace.h5ad")
    back = ad.read_h5ad(tmp_path / "ace.h5ad")
    np.testing.assert_array_equal(back.X, adata.X)
    pd.testing.assert_frame_equal(back.var, adata.var)
    pd.testing.assert_frame_equal(back.varm["effect"], adata.varm["effect"])
    assert back.uns["truth"] == adata.uns["truth"]


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"n_cells": 0}, "`n_cells` must be a whole number of at least 1, got 0"),
        ({"n_cells": 4}, r"`n_cells` must be at least `n_groups` \(5\), got 4"),
        ({"n_groups": 1}, "`n_groups` must be a whole number of at least 2"),
        ({"n_causal": 0}, "`n_causal`"),
        ({"n_dependent": -1}, "`n_dependent` must be a whole number of at least 0"),
        ({"n_noise": 1.5}, "n_noise"),
        ({"n_batches": 0}, "`n_batches`"),
        ({"complexity": "hard"}, "`complexity` must be 'clean' or 'complex', got 'hard'"),
        ({"batch_sd": -1}, "`batch_sd` must be a number of at least 0"),
        ({"batch_sd": np.nan}, "`batch_sd`"),
        ({"dropout": 1}, "`dropout` must lie between 0 and 1"),
        ({"dropout": np.nan}, "`dropout`"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make(**kwargs)
