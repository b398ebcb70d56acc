import numpy as np
import pytest

import lucidvi as lv
from lucidvi._genomics import tss_distance


@pytest.fixture(scope="module")
def mdata():
    return lv.datasets.decoy_enhancers(n_cells=3000, n_genes=24, n_peaks=1500)


def of_truth(mdata, column):
    truth = mdata.uns["truth"].query("logic != 'none'")
    x = mdata["atac"].X.toarray() > 0
    return x[:, mdata["atac"].var_names.get_indexer(truth[column])]


def test_regulators_look_like_their_neighbours(mdata):
    regulator, decoy = of_truth(mdata, "peak"), of_truth(mdata, "decoy")
    links = lv._genomics.cis_pairs(
        lv._genomics.gene_coordinates(mdata["rna"].var),
        lv._genomics.peak_coordinates(mdata["atac"].var), 100_000,
    )  # fmt: skip
    near = (mdata["atac"].X[:, np.unique(links[1])] > 0).mean()
    assert regulator.mean() == pytest.approx(near, rel=0.15)
    assert decoy.mean() == pytest.approx(regulator.mean(), rel=0.05)
    assert (regulator == decoy).mean() > 0.9
    truth, genes = mdata.uns["truth"].query("logic != 'none'"), mdata["rna"].var
    for row in truth.itertuples():
        for peak in (row.peak, row.decoy):
            start, end = mdata["atac"].var.loc[peak, ["start", "end"]]
            assert abs(tss_distance(np.array([genes.loc[row.gene, "tss"]]), np.array([False]), np.array([start]), np.array([end]))[0]) <= 50_000  # fmt: skip


def test_expression_follows_the_logic(mdata):
    truth, x = mdata.uns["truth"], mdata["atac"].X.toarray() > 0
    counts = mdata["rna"].X.toarray()
    for gene, part in truth.query("logic != 'none'").groupby("gene"):
        n_open = x[:, mdata["atac"].var_names.get_indexer(part["peak"])].sum(1)
        mean = [counts[n_open == k, mdata["rna"].var_names.get_loc(gene)].mean() for k in (0, 1, 2)]
        logic = part["logic"].iloc[0]
        assert mean[1] > 3 * mean[0] if logic != "synergistic" else mean[1] < 2.5 * mean[0]
        assert mean[2] > 1.3 * mean[1] if logic != "redundant" else mean[2] < 2.5 * mean[1]


def test_seed_and_names():
    one, same, other = (lv.datasets.decoy_enhancers(200, 8, 400, seed=s) for s in (1, 1, 2))
    assert (one["atac"].X != same["atac"].X).nnz == 0 == (one["rna"].X != same["rna"].X).nnz
    assert one["atac"].shape == other["atac"].shape and (one["rna"].X != other["rna"].X).nnz
    assert list(one.uns["truth"]) == ["gene", "logic", "peak", "decoy"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"n_genes": 0}, "at least 1"), ({"openness": 0.0}, "openness"), ({"copied": 1.5}, "copied"), ({"counts": -1.0}, "counts")],
)  # fmt: skip
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        lv.datasets.decoy_enhancers(**options)
