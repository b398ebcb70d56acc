import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import lucidvi as lv


@pytest.fixture(params=["memory", "h5ad"])
def adata(request, tmp_path):
    adata = ad.AnnData(np.zeros((4, 2), np.float32))
    adata.obs["kind"] = pd.Categorical(["B", "B", "T", "T"])
    adata.uns["kind_colors"] = ["#112233", "#445566"]
    path = pd.DataFrame(
        {
            "group": ["T", "B", "T", "B", "T"],
            "step": [0, 0, 1, 1, 2],
            "n_features": [0, 0, 2, 3, 5],
            "flip_rate": [0.1, 0.2, 0.6, 0.96, 0.97],
        }
    )
    params = {"groupby": "kind", "reference": "rest", "flip_rate": 0.95}
    names = np.rec.fromarrays([["a"], ["b"]], dtype=[("T", "O"), ("B", "O")])
    panels = pd.DataFrame({"group": ["T", "B"], "reference": "rest"})
    adata.uns["gene_panel"] = {"path": path, "params": params, "names": names, "signs": names}
    adata.uns["gene_panel"]["panels"] = panels
    if request.param == "h5ad":
        adata.write_h5ad(tmp_path / "path.h5ad")
        adata = ad.read_h5ad(tmp_path / "path.h5ad")
    yield adata
    plt.close("all")


def test_lines_are_the_path(adata):
    ax = lv.pl.panel_path(adata)
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["T"].get_xdata(), [0, 2, 5])
    np.testing.assert_allclose(lines["B"].get_ydata(), [0.2, 0.96])
    assert to_hex(lines["T"].get_color()) == "#445566"
    assert ax.get_title(loc="left") == "Panels against the rest"


def test_one_group(adata):
    labels = {line.get_label() for line in lv.pl.panel_path(adata, groups="B").lines}
    assert "B" in labels and "T" not in labels


def test_title_within_types(adata):
    adata.uns["gene_panel"]["params"]["within"] = "cell_type"
    assert lv.pl.panel_path(adata).get_title(loc="left") == "Panels within cell_type"


def test_bad_input(adata):
    with pytest.raises(ValueError, match="Group 'NK' is unknown"):
        lv.pl.panel_path(adata, groups=["NK"])
    with pytest.raises(KeyError, match="Did you mean 'gene_panel'"):
        lv.pl.panel_path(adata, key="gene_panels")
