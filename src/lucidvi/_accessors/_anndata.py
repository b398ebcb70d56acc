"""``adata.lv``."""

from anndata import AnnData, register_anndata_namespace

from lucidvi._accessors._accessor import Accessor


@register_anndata_namespace("lv")
class AnnDataAccessor(Accessor):
    """Results of lucidvi in an AnnData object."""

    def __init__(self, adata: AnnData):
        self._data = adata
