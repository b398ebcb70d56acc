import gzip
import warnings

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

import lucidvi as lv

SETS = {
    "MAPK cascade (GO:0043410)": ["EGF", "KDR", "APP", "LEP"],
    "NF-kB (GO:1901224)": ["TLR2", "RELA"],
    "NF-kB, canonical": ["TLR2", "NFKB1"],
}
LINES = ["\t".join([name, "", *genes]) for name, genes in SETS.items()]


@pytest.fixture(params=["gmt", "gmt.gz", "dict", "network"])
def source(request, tmp_path):
    if request.param == "dict":
        return SETS
    if request.param == "network":
        rows = [(name, gene, 1.0) for name, genes in SETS.items() for gene in genes]
        return pd.DataFrame(rows, columns=["source", "target", "weight"])
    path = tmp_path / f"sets.{request.param}"
    text = "\n".join([LINES[0], "", LINES[1] + "\r", LINES[2] + "\tTLR2\t"]).encode()
    path.write_bytes(gzip.compress(text) if request.param == "gmt.gz" else text)
    return str(path) if request.param == "gmt" else path


def test_every_source_gives_the_same_sets(source):
    assert lv.datasets.gene_sets(source) == SETS
    by_part = lv.datasets.gene_sets(source, ["go:0043410", "canonical"])
    assert by_part == {name: SETS[name] for name in list(SETS)[::2]}
    assert lv.datasets.gene_sets(source, {"mapk": "0043410"}) == {"mapk": list(SETS.values())[0]}
    assert list(lv.datasets.gene_sets(source, "GO:1901224")) == ["NF-kB (GO:1901224)"]


def test_an_exact_name_may_be_part_of_another():
    sets = {"hypoxia": ["a"], "hypoxia, early": ["b"]}
    assert lv.datasets.gene_sets(sets, "hypoxia") == {"hypoxia": ["a"]}


def test_table_for_the_data(said):
    adata = AnnData(np.zeros((2, 5), np.float32), var=pd.DataFrame(index=list("ABCDE")))
    sets = {"one": ["E", "A", "X"], "two": ["B"]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = lv.datasets.gene_sets(sets, var_names=adata.var_names)
    assert table.dtypes.eq(bool).all()
    assert table["one"].tolist() == [True, False, False, False, True]
    assert table["two"].tolist() == [False, True, False, False, False]
    assert said == ["one: 2 of 3 genes are in the data.", "two: 1 of 1 genes are in the data."]
    adata.var = adata.var.join(table)
    adata.varm["sets"] = table
    assert adata.var["one"].sum() == 2


def test_few_genes_found():
    sets = {"one": ["A", "P", "Q", "R", "S", "T", "U"]}
    message = "1 of the 7 genes of 'one' are in the data; missing are P, Q, R, S, T, ...[.]$"
    with pytest.warns(UserWarning, match=message) as caught:
        lv.datasets.gene_sets(sets, var_names=["A", "B"])
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        lv.datasets.gene_sets(sets, var_names=["A", "B"], min_share=0.1)


def test_another_species():
    sets = {"one": ["EGF", "KDR", "TNF"]}
    message = "2 would be found without regard to case: .* names such as Egf, Tnf"
    with pytest.raises(ValueError, match=f"0 of the 3 genes of 'one' .*{message}"):
        lv.datasets.gene_sets(sets, var_names=["Egf", "Tnf"])
    with pytest.warns(UserWarning, match=message.replace("2", "3", 1)):
        lv.datasets.gene_sets({"one": ["EGF", "TNF", "X"]}, var_names=["Egf", "Tnf", "X"])


def test_bad_input(tmp_path):
    gene_sets = lv.datasets.gene_sets
    with pytest.raises(ValueError, match="'NF-kB' is part of 2 names: 'NF-kB .*', 'NF-kB, can"):
        gene_sets(SETS, "NF-kB")
    with pytest.raises(ValueError, match="'MAPK cascde' is unknown. Did you mean 'MAPK cascade"):
        gene_sets(SETS, ["MAPK cascde"])
    with pytest.raises(TypeError, match="Set 'one' is a string"):
        gene_sets({"one": "EGF"})
    with pytest.raises(TypeError, match="`source` is of type list"):
        gene_sets([["EGF"]])
    with pytest.raises(KeyError, match=r"lacks the column\(s\) \['target'\]"):
        gene_sets(pd.DataFrame({"source": ["a"], "gene": ["b"]}))
    with pytest.raises(FileNotFoundError):
        gene_sets(tmp_path / "none.gmt")
    path = tmp_path / "sets.gmt"
    path.write_text("name,description,EGF\n")
    with pytest.raises(ValueError, match="Line 1 of sets.gmt is not GMT"):
        gene_sets(path)
    path.write_text("\n".join([LINES[0], LINES[0]]))
    with pytest.raises(ValueError, match="names the set 'MAPK cascade .*' twice"):
        gene_sets(path)
