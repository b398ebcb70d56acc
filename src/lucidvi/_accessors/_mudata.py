"""``mdata.lv``."""

from mudata import MuData, register_mudata_namespace

from lucidvi._accessors._accessor import Accessor


@register_mudata_namespace("lv")
class MuDataAccessor(Accessor):
    """Results of lucidvi in a MuData object."""

    def __init__(self, mdata: MuData):
        self._data = mdata
