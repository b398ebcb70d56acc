"""Arguments are refused by their annotated kind, whatever function they are given to."""

from collections.abc import Callable, Iterable, Sequence

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from lucidvi._arguments import checked
from lucidvi._validation import check_layer


@checked
def apply(function: Callable[[np.ndarray], float], names: Iterable[str] = ()) -> float:
    return function(np.ones(3))


@pytest.mark.parametrize("function", [lambda: 0.0, lambda a, b: 0.0, int, "text", None])
def test_functions_take_the_annotated_number_of_arguments(function):
    with pytest.raises(TypeError, match=r"function=.*Pass a function of 1 argument\."):
        apply(function)


@pytest.mark.parametrize(
    "function", [np.sum, lambda x, power=1: x.sum(), lambda *x: 1.0, float.__add__]
)
def test_other_functions_pass(function):
    if function is float.__add__:  # takes two
        with pytest.raises(TypeError, match="a function of 1 argument"):
            apply(function)
    else:
        apply(function)


def test_numbers_of_numpy_are_handed_on_as_those_of_python():
    @checked
    def kinds(a: int, *, seed: int | None = 0, share: float = 0.5, copy: bool = False) -> list:
        return [type(v) for v in (a, seed, share, copy)]

    found = kinds(np.int32(3), seed=np.int64(3), share=np.float64(0.1), copy=np.True_)
    assert found == [int, int, float, bool]


@pytest.mark.parametrize(
    "names", [pd.DataFrame(), pd.DataFrame({"a": ["x"]}), np.array([["a", "b"]])]
)
def test_names_have_one_dimension(names):
    with pytest.raises(TypeError, match="(?s)names=.*Pass a list of names"):
        apply(np.sum, names)


def test_layers_are_known():
    data = ad.AnnData(np.ones((2, 2)), layers={"counts": np.ones((2, 2))})
    check_layer(data, None)
    check_layer(data, "counts")
    with pytest.raises(KeyError, match=r"layer='count' is not in \.layers\. Did you mean 'counts'"):
        check_layer(data, "count")


def test_references_of_anndata_are_names():
    acc = pytest.importorskip("anndata.acc", reason="came with anndata 0.13")

    @checked
    def names(one: str, several: Sequence[str] = (), *, free: object = None) -> tuple:
        return one, several, free

    a = acc.A
    assert names(a.obs["cell type"], [a.obsm["X_umap"], "X_pca"]) == ("cell type", ["X_umap", "X_pca"], None)  # fmt: skip
    assert names("plain", free=a.layers["counts"]) == ("plain", (), "counts")
    with pytest.raises(TypeError, match="refers to numbers. Pass a column"):
        names(a.obsm["X_umap"][:, 0])
    with pytest.raises(TypeError, match="refers to numbers"):
        names(a.X[:, "gene"])
