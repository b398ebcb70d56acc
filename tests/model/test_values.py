"""What the numbers of a matrix are."""

import numpy as np
import pytest
import scipy.sparse as sp

from lucidvi.model._matrix import blocks, check_numbers, in_memory, kind_of_values


def counts(mean=2.0, n=200, g=80):
    rng = np.random.default_rng(0)
    return rng.poisson(mean * rng.gamma(1.0, 1.0, g) * rng.uniform(0.5, 2, (n, 1)), (n, g)).astype(
        float
    )


def share(x, total):
    return x / np.maximum(x.sum(1, keepdims=True), 1) * total


KINDS = {
    "counts": [counts(), counts(0.1), counts().astype(np.uint16), counts() > 0, np.zeros((3, 4))],
    "unlogged": [
        np.maximum(counts(8) - 0.3, 0), counts(20) * 0.97, counts(2) * 0.97, share(counts(), 1e4), share(counts(), 1e6),
        share(counts(), 100),
    ],
    "log1p": [np.log1p(share(counts(m), s)) for m in (0.3, 2, 20) for s in (1e3, 1e4, 1e6)],
    "other": [
        np.random.default_rng(0).normal(size=(50, 20)), np.random.default_rng(0).random((50, 20)),
        np.random.default_rng(0).normal(size=(50, 20)) * 30,
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "i"), [(k, i) for k, part in KINDS.items() for i in range(len(part))])  # fmt: skip
@pytest.mark.parametrize("held", [np.asarray, sp.csr_matrix, sp.csc_array])
def test_kinds(kind, i, held):
    assert kind_of_values(held(KINDS[kind][i])) == kind


def test_files_and_dask(tmp_path):
    import anndata as ad

    x = sp.csr_matrix(counts().astype(np.float32))
    ad.AnnData(x).write_h5ad(tmp_path / "a.h5ad")
    kept = [ad.read_h5ad(tmp_path / "a.h5ad", backed="r").X]
    try:
        import dask.array as da

        kept.append(da.from_array(x.toarray(), chunks=(64, -1)))
    except ImportError:
        pass
    for held in kept:
        check_numbers(held, "The data")
        read = in_memory(held)
        np.testing.assert_array_equal(read.toarray() if sp.issparse(read) else read, x.toarray())
        assert (
            kind_of_values(held) == "counts" and sum(part.shape[0] for part in blocks(held)) == 200
        )


@pytest.mark.parametrize(
    "bad", [None, np.array([["a"]]), np.ma.masked_array([[1.0]], [[True]]), np.array([[1j]])]
)
def test_what_is_no_matrix_of_numbers(bad):
    with pytest.raises(ValueError, match="The data"):
        check_numbers(bad, "The data")
