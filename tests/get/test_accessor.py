"""``adata.lv`` offers the tables and plots, whatever is imported first."""

import subprocess
import sys

import matplotlib.pyplot as plt
import mudata as md
import pandas as pd
import pytest

import lucidvi as lv


def test_tables_are_those_of_the_functions(adata):
    pd.testing.assert_frame_equal(adata.lv.get.panels(), lv.get.panels(adata))
    first = adata.lv.get.gene_panel(n_genes=2)
    pd.testing.assert_frame_equal(first, lv.get.gene_panel(adata, n_genes=2))
    mdata = md.MuData({"rna": adata})
    pd.testing.assert_frame_equal(mdata.lv.get.panels(), lv.get.panels(mdata))


def test_plots_and_report(adata, tmp_path):
    assert adata.lv.pl.loadings(show=False) is not None
    plt.close("all")
    assert adata.lv.report(tmp_path / "a.html").exists()


def test_names(adata):
    assert dir(adata.lv.get) == lv.get.__all__
    assert set(dir(adata.lv.pl)) < set(lv.pl.__all__)
    assert adata.lv.get.panels.__doc__ == lv.get.panels.__doc__
    with pytest.raises(AttributeError, match="no 'panelx' of data. It has: .*panels"):
        _ = adata.lv.get.panelx
    with pytest.raises(AttributeError, match="no 'fssf' of data"):  # a plot of a table
        _ = adata.lv.pl.fssf


@pytest.mark.parametrize("order", [("anndata", "lucidvi"), ("lucidvi", "anndata"), ("lucidvi", "scanpy"), ("lucidvi", "mudata")])  # fmt: skip
def test_whatever_is_imported_first(order):
    code = "".join(f"import {name}\n" for name in order) + "import anndata, mudata; anndata.AnnData.lv, mudata.MuData.lv"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
