"""Images before and after."""

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

import lucidvi as lv


@pytest.fixture(params=["memory", "h5ad"])
def adata(request, tmp_path):
    rng = np.random.default_rng(0)
    adata = ad.AnnData(rng.random((6, 12), dtype=np.float32))
    change = np.zeros((6, 12), np.float32)
    change[0, 1], change[2, 3], change[4, 5] = 0.1, -0.5, 3.0
    panels = pd.DataFrame({"group": ["8"], "reference": ["3"]})
    for key in ("gene_panel", "again"):
        adata.uns[key] = {"panels": panels, "params": {}, "names": change, "signs": change}
        adata.layers[key] = sp.csr_matrix(change)
    adata.var["pixel"] = np.arange(12)[::-1].copy()
    if request.param == "h5ad":
        adata.write_h5ad(tmp_path / "images.h5ad")
        adata = ad.read_h5ad(tmp_path / "images.h5ad")
    yield adata
    plt.close("all")


def test_image_change_and_result(adata):
    figure = lv.pl.image_changes(adata, (3, 4), n_images=1)
    image, change, result = (axis.images[0].get_array() for axis in figure.axes)
    np.testing.assert_allclose(image.ravel(), adata.X[2], rtol=1e-6)  # the change of median size
    assert change[0, 3] == -0.5 and (change != 0).sum() == 1
    np.testing.assert_allclose(result, image + change, rtol=1e-6)
    low, high = figure.axes[1].images[0].get_clim()
    assert low == -high == -0.5
    assert figure.axes[0].get_ylabel() == "8 → 3"
    assert [axis.get_title() for axis in figure.axes] == ["image", "change", "result"]


def test_rows_are_results_and_pixels_have_places(adata):
    figure = lv.pl.image_changes(
        adata, (3, 4), key=["gene_panel", "again"], positions="pixel", n_images=2
    )
    assert len(figure.axes) == 2 * 7
    np.testing.assert_allclose(
        figure.axes[0].images[0].get_array().ravel(), adata.X[0, ::-1], rtol=1e-6
    )


def test_errors(adata):
    with pytest.raises(KeyError, match="No 'other' in adata.uns"):
        lv.pl.image_changes(adata, (3, 4), key="other")
    adata.uns["nope"] = adata.uns["gene_panel"]
    with pytest.raises(KeyError, match="No changes of single cells under layers") as error:
        lv.pl.image_changes(adata, (3, 4), key="nope")
    assert "'None'" not in str(error.value)  # which anndata lists among the layers
    with pytest.raises(ValueError, match="12 pixels do not fill an image of 3 x 3"):
        lv.pl.image_changes(adata, (3, 3))
    with pytest.raises(KeyError, match="Did you mean 'pixel'"):
        lv.pl.image_changes(adata, (3, 4), positions="pixels")
    with pytest.raises(ValueError, match="goes from 0 to 11, outside 2 x 2"):
        lv.pl.image_changes(adata, (2, 2), positions="pixel")
