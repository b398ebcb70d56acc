import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scanpy as sc

from lucidvi.metrics import panel_redundancy
from lucidvi.metrics._rankings import cell_groups, check_sizes, top_columns, top_genes

RANKED = {"B": ["b", "a", "c"], "T": ["c", "b", "a"]}


@pytest.mark.parametrize(
    "rankings",
    [
        RANKED,
        {group: np.array(genes) for group, genes in RANKED.items()},
        {group: pd.Index(genes) for group, genes in RANKED.items()},
        pd.DataFrame(RANKED),
        pd.DataFrame(RANKED).astype("category"),
        pd.DataFrame(RANKED).to_records(index=False),
        pd.DataFrame(RANKED).to_records(index=False, column_dtypes=dict.fromkeys(RANKED, "U5")),
    ],
)
def test_forms_of_rankings(rankings):
    assert top_genes(rankings, 2) == {"B": ["b", "a"], "T": ["c", "b"]}
    columns = top_columns(rankings, ["a", "b", "c"], 3, 3)
    assert {g: c.tolist() for g, c in columns.items()} == {"B": [1, 0, 2], "T": [2, 1, 0]}


def test_scanpy_before_and_after_a_file(tmp_path):
    x = np.random.default_rng(0).poisson(3, (40, 6)).astype("f4")
    x[:20, 4] += 30
    adata = ad.AnnData(x, obs={"group": pd.Categorical(np.repeat([0, 1], 20))})
    adata.var_names = list("abcdef")
    sc.tl.rank_genes_groups(adata, "group", method="t-test")
    result = adata.uns["rank_genes_groups"]
    expected = {group: [str(g) for g in result["names"][group]] for group in ("0", "1")}
    assert expected["0"][0] == "e"
    assert top_genes(result["names"], 6) == expected
    adata.write_h5ad(tmp_path / "ranked.h5ad")
    back = ad.read_h5ad(tmp_path / "ranked.h5ad").uns["rank_genes_groups"]
    assert top_genes(back["names"], 6) == expected
    assert set(cell_groups(adata.obs["group"], 40)) == set(expected)
    with pytest.raises(TypeError, match="give its 'names' entry"):
        top_genes(result, 2)


def test_columns_may_end_early():
    table = pd.DataFrame({"B": ["b", "a"], "T": ["c", None]})
    assert top_genes(table, 1) == {"B": ["b"], "T": ["c"]}
    with pytest.raises(ValueError, match="group 'T' in `rankings` has 1 genes, but the top 2"):
        top_genes(table, 2)
    with pytest.raises(TypeError, match="must hold gene names, best first, but has None"):
        top_genes({"T": [None, "c"]}, 1)


@pytest.mark.parametrize(
    "rankings,error,message",
    [
        ({}, ValueError, "`rankings` holds no group"),
        (["a", "b"], TypeError, "must be a mapping from group to ranked gene names.*not list"),
        (np.array([["a"]]), TypeError, "not ndarray"),
        ({"B": "abc"}, TypeError, "group 'B' in `rankings` must be a sequence of gene names"),
        ({"B": 3}, TypeError, "must be a sequence"),
        ({"B": [0, 1]}, TypeError, r"must hold gene names, best first, but has 0 \(int\)"),
        ({"B": ["a", "b", "a"]}, ValueError, "names 'a' more than once"),
        ({"B": ["a"]}, ValueError, "has 1 genes, but the top 2"),
        ({"B": ["a", "b"], "0": ["a"], 0: ["b"]}, ValueError, "more than one ranking of"),
        ({"B": ["a", "Cb"]}, KeyError, "ranking of group 'B'.*first is 'Cb'"),
    ],
)
def test_bad_rankings(rankings, error, message):
    with pytest.raises(error, match=message):
        top_columns(rankings, ["a", "b", "c"], 3, 2)


@pytest.mark.parametrize("sizes", [3, np.int64(3), [3, 3], (3,), np.array([3]), pd.Index([3])])
def test_sizes(sizes):
    assert check_sizes(sizes).tolist() == [3]
    assert check_sizes([5, 1, 3]).tolist() == [1, 3, 5]


@pytest.mark.parametrize("sizes", [0, [], [1, 0], 1.5, [True], "ab", None, np.nan])
def test_bad_sizes(sizes):
    with pytest.raises(ValueError, match="`sizes` must be one or more whole numbers"):
        check_sizes(sizes)


def test_bad_names_and_groups():
    x = np.eye(3)
    with pytest.raises(ValueError, match="must name the 3 columns of `x`, got 2"):
        panel_redundancy(x, RANKED, names=["a", "b"], sizes=2)
    with pytest.raises(ValueError, match=r"must be unique, but \['a'\] occur"):
        panel_redundancy(x, RANKED, names=["a", "b", "a"], sizes=2)
    with pytest.raises(ValueError, match="top 4 genes are wanted, but `x` has 3"):
        panel_redundancy(x, RANKED, names=["a", "b", "c"], sizes=4)
    with pytest.raises(ValueError, match="`groups` must hold 3 values.*1 missing"):
        cell_groups(["B", None, "T"], 3)
    with pytest.raises(ValueError, match="`groups` must hold 4 values"):
        cell_groups(["B", "B", "T"], 4)
