import mudata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import chi2_contingency, kstest

import lucidvi as lv
from lucidvi._genomics import cis_pairs, gene_coordinates, peak_coordinates


@pytest.fixture(scope="module")
def mdata():
    return lv.datasets.redundant_enhancers()


def regulators(mdata, logic=None):
    """The open regulators of each gene: gene -> boolean (cells, regulators)."""
    truth = mdata.uns["truth"].query("peak != ''")
    if logic is not None:
        truth = truth[truth["logic"] == logic]
    return {g: mdata["atac"][:, list(t["peak"])].X.toarray() > 0 for g, t in truth.groupby("gene")}


def normalised(mdata, gene):
    """Counts over the mean of the cell's type, so that only cis effects and noise remain."""
    counts = pd.Series(mdata["rna"][:, gene].X.toarray().ravel(), index=mdata.obs_names)
    return (counts / counts.groupby(mdata.obs["cell_type"], observed=True).transform("mean")).array


def assert_equal(one, other):
    for table in ("obs", "var"):
        pd.testing.assert_frame_equal(getattr(one, table), getattr(other, table))
    pd.testing.assert_frame_equal(one.uns["truth"], other.uns["truth"])
    for modality in ("rna", "atac"):
        pd.testing.assert_frame_equal(one[modality].obs, other[modality].obs)
        pd.testing.assert_frame_equal(one[modality].var, other[modality].var)
        assert one[modality].X.dtype == other[modality].X.dtype
        assert (one[modality].X != other[modality].X).nnz == 0


def test_shapes_and_tables(mdata):
    assert mdata["rna"].shape == (3000, 60)
    assert mdata["atac"].shape == (3000, 6000)
    for part in (mdata, mdata["rna"], mdata["atac"]):
        assert part.obs["cell_type"].value_counts().to_dict() == {
            f"type_{t}": 750 for t in range(4)
        }
        assert set(part.obs["batch"]) == {"batch_0"}
    assert list(mdata["rna"].var) == ["chrom", "start", "end", "strand", "tss"]
    assert list(mdata["atac"].var) == ["chrom", "start", "end"]
    truth = mdata.uns["truth"]
    assert list(truth) == ["gene", "logic", "peak", "distance"]
    assert truth.groupby("logic")["gene"].nunique().to_dict() == dict.fromkeys(
        ["additive", "none", "redundant", "synergistic"], 15
    )
    assert (
        truth.groupby("gene").size()
        == truth.groupby("gene")["logic"].first().map(lambda logic: 1 if logic == "none" else 3)
    ).all()
    none = truth["logic"] == "none"
    assert (truth.loc[none, "peak"] == "").all()
    assert truth["distance"].isna().equals(none)
    assert truth.loc[~none, "peak"].is_unique


def test_counts_are_sparse_and_realistic(mdata):
    for modality in ("rna", "atac"):
        x = mdata[modality].X
        assert isinstance(x, sp.csr_matrix)
        assert x.dtype == np.float32
        assert x.has_canonical_format
        assert x.data.min() >= 1
        np.testing.assert_array_equal(x.data, np.round(x.data))
    x = mdata["atac"].X
    assert 0.03 < x.nnz / np.prod(x.shape) < 0.05
    other = ~mdata["atac"].var_names.isin(mdata.uns["truth"]["peak"])
    assert x[:, other].nnz / (3000 * other.sum()) == pytest.approx(0.035, abs=0.003)
    assert (x.data == 1).mean() > 0.9
    assert 80 < mdata["rna"].X.sum(axis=1).mean() < 200


def test_peaks_are_sorted_apart_and_named_by_their_place(mdata):
    var = mdata["atac"].var
    by_name = peak_coordinates(pd.DataFrame(index=var.index))
    pd.testing.assert_frame_equal(by_name, peak_coordinates(var))
    for _, peaks in var.groupby("chrom", observed=True):
        assert (peaks["start"].to_numpy()[1:] > peaks["end"].to_numpy()[:-1]).all()
    assert 400 < (var["end"] - var["start"]).mean() < 600
    assert var["chrom"].cat.categories.tolist() == [f"chr{c}" for c in range(1, 9)]


def test_regulators_lie_near_their_gene_and_far_from_others(mdata):
    genes, peaks = gene_coordinates(mdata["rna"].var), peak_coordinates(mdata["atac"].var)
    truth = mdata.uns["truth"].query("peak != ''")
    g, p = genes.loc[truth["gene"]], peaks.loc[truth["peak"]]
    assert (g["chrom"].to_numpy() == p["chrom"].to_numpy()).all()
    assert (p["start"].to_numpy() >= g["tss"].to_numpy() - 50_000).all()
    assert (p["end"].to_numpy() <= g["tss"].to_numpy() + 50_000).all()

    gene, peak, distance = cis_pairs(genes, peaks, 100_000)
    near = pd.DataFrame(
        {"gene": genes.index[gene], "peak": peaks.index[peak], "distance": distance.astype(float)}
    )
    found = near[near["peak"].isin(truth["peak"])]
    merged = truth.merge(found, on=["gene", "peak", "distance"])
    assert len(merged) == len(found) == len(truth)
    assert 15 < near.groupby("gene").size().mean() < 30


@pytest.mark.parametrize(
    "logic,multipliers",
    [
        ("redundant", [0.15, 1.75, 1.75, 1.75]),
        ("additive", [0.15, 0.15 + 1.6 / 3, 0.15 + 3.2 / 3, 1.75]),
        ("synergistic", [0.15, 0.15, 0.15, 1.75]),
    ],
)
def test_expression_follows_the_logic(mdata, logic, multipliers):
    open_ = regulators(mdata, logic)
    n_open = np.concatenate([x.sum(axis=1) for x in open_.values()])
    expression = np.concatenate([normalised(mdata, gene) for gene in open_])
    level = np.array([expression[n_open == k].mean() for k in range(4)])
    np.testing.assert_allclose(level / level[3] * 1.75, multipliers, atol=0.06)


def test_genes_without_logic_ignore_their_peaks(mdata):
    truth = mdata.uns["truth"]
    none = set(truth.loc[truth["logic"] == "none", "gene"])
    genes, peaks = gene_coordinates(mdata["rna"].var), peak_coordinates(mdata["atac"].var)
    gene, peak, _ = cis_pairs(genes, peaks, 50_000)
    z = []
    for g in np.unique(gene):
        if genes.index[g] in none:
            is_open = mdata["atac"].X[:, peak[gene == g]].toarray() > 0
            expression = normalised(mdata, genes.index[g])
            r = np.corrcoef(expression, is_open.T)[0, 1:]
            z.append(r * np.sqrt(mdata.n_obs))
    assert len(z) == 15
    assert 0.8 < np.concatenate(z).std() < 1.25


def test_regulators_have_their_openness_whatever_the_type(mdata):
    p_values, correlation = [], []
    for logic, share in (("redundant", 0.45), ("additive", 0.45), ("synergistic", 0.45 ** (1 / 3))):
        open_ = regulators(mdata, logic)
        assert np.mean(list(open_.values())) == pytest.approx(share, abs=0.01)
        for x in open_.values():
            correlation.append(np.corrcoef(x.T)[np.triu_indices(3, 1)])
            for j in range(3):
                table = pd.crosstab(mdata.obs["cell_type"].array, x[:, j])
                p_values.append(chi2_contingency(table, correction=False).pvalue)
    assert kstest(p_values, "uniform").pvalue > 1e-3
    assert np.abs(np.mean(correlation)) < 0.01
    assert np.abs(correlation).max() < 0.1
    all_open = [x.all(axis=1).mean() for x in regulators(mdata, "synergistic").values()]
    assert np.mean(all_open) == pytest.approx(0.45, abs=0.02)


def test_some_other_peaks_mark_types(mdata):
    is_open = mdata["atac"].X > 0
    kind = mdata.obs["cell_type"].to_numpy()
    by_type = np.array([is_open[kind == t].mean(axis=0).A1 for t in np.unique(kind)])
    common = by_type.mean(axis=0) > 0.05
    ratio = by_type[:, common].max(axis=0) / by_type[:, common].mean(axis=0)
    assert 0.1 < (ratio > 1.5).mean() < 0.25


@pytest.mark.parametrize("co_opening", [0.4, 0.9])
def test_co_opening_is_the_correlation_of_regulators(co_opening):
    mdata = lv.datasets.redundant_enhancers(
        2000, 12, 600, n_regulators=6, logics=("redundant",), co_opening=co_opening
    )
    open_ = regulators(mdata)
    correlation = [np.corrcoef(x.T)[np.triu_indices(6, 1)].mean() for x in open_.values()]
    assert np.mean(correlation) == pytest.approx(co_opening, abs=0.03)
    assert np.mean(list(open_.values())) == pytest.approx(0.45, abs=0.03)


def test_batches_change_rna_only_when_there_are_several():
    mdata = lv.datasets.redundant_enhancers(2000, 20, 600, n_batches=2, n_types=1, seed=3)
    x = mdata["rna"].X
    first = (mdata.obs["batch"] == "batch_0").to_numpy()
    ratio = np.log(x[first].mean(axis=0).A1 / x[~first].mean(axis=0).A1)
    assert 0.25 < ratio.std() < 0.7
    halves = np.arange(2000) % 2 == 0
    assert np.log(x[halves].mean(axis=0).A1 / x[~halves].mean(axis=0).A1).std() < 0.12


def test_dispersion_widens_counts():
    kwargs = {"n_types": 1, "logics": ("none",), "depth": 5}
    poisson = lv.datasets.redundant_enhancers(1000, 10, 200, **kwargs)["rna"].X.toarray()
    nb = lv.datasets.redundant_enhancers(1000, 10, 200, dispersion=1, **kwargs)["rna"].X.toarray()
    np.testing.assert_allclose(nb.mean() / poisson.mean(), 1, atol=0.15)
    assert (nb.var(axis=0) / poisson.var(axis=0)).mean() > 1.5


def test_seed():
    make = lv.datasets.redundant_enhancers
    small = make(60, 8, 400, seed=1)
    np.random.default_rng().random()
    assert_equal(small, make(60, 8, 400, seed=1))
    assert (small["atac"].X != make(60, 8, 400, seed=2)["atac"].X).nnz > 0
    more = make(90, 8, 400, seed=1)
    pd.testing.assert_frame_equal(small.uns["truth"], more.uns["truth"])


def test_round_trip(tmp_path):
    mdata = lv.datasets.redundant_enhancers(
        120, 30, 1500, n_types=12, n_batches=2, n_chromosomes=24, n_regulators=4
    )
    mdata.write_h5mu(tmp_path / "simulated.h5mu")
    assert_equal(mudata.read_h5mu(tmp_path / "simulated.h5mu"), mdata)


@pytest.mark.parametrize("n_regulators,n_chromosomes", [(1, 1), (12, 3), (3, 24)])
def test_other_sizes(n_regulators, n_chromosomes):
    mdata = lv.datasets.redundant_enhancers(
        20, 10, 1000, n_regulators=n_regulators, n_chromosomes=n_chromosomes, logics=("additive",)
    )
    assert len(mdata.uns["truth"]) == 10 * n_regulators
    assert mdata.uns["truth"]["distance"].abs().max() <= 50_000
    assert mdata["atac"].var["chrom"].nunique() == n_chromosomes


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"n_cells": 0}, "`n_cells` must be a whole number of at least 1"),
        ({"n_genes": 2.5}, "n_genes"),
        ({"n_types": 0}, "`n_types`"),
        ({"n_cells": 3, "n_types": 4}, r"`n_types` \(4\) exceeds `n_cells` \(3\)"),
        ({"n_cells": 3, "n_types": 1, "n_batches": 4}, "`n_batches`"),
        ({"n_chromosomes": 25}, "`n_chromosomes` must be at most 24, got 25"),
        ({"n_peaks": 100}, r"`n_peaks` \(100\) is too small: 60 genes with 3 .* at least 180"),
        ({"n_peaks": 180}, "peaks lie near gene .* raise `n_peaks`"),
        ({"openness": 0}, "`openness` must lie between 0 and 1"),
        ({"regulator_openness": 1.0}, "`regulator_openness`"),
        ({"co_opening": 1}, "`co_opening` must be at least 0 and below 1"),
        ({"effect": -1}, "`effect` must be positive"),
        ({"depth": np.nan}, "`depth` must be positive"),
        ({"dispersion": 0}, "`dispersion` must be positive"),
        (
            {"logics": ("redundant", "or")},
            r"`logics` must be .*'synergistic'.* got \('redundant', 'or'\)",
        ),
        ({"logics": "redundant"}, "logics"),
        ({"logics": ()}, "logics"),
    ],
)
def test_errors(kwargs, message):
    with pytest.raises((TypeError, ValueError), match=message):
        lv.datasets.redundant_enhancers(**kwargs)
