"""scARE as a function of its input: scVI's networks are read as scVI's are."""

from lucidvi.adapters._registry import register
from lucidvi.adapters._scvi import SCVIAdapter
from lucidvi.model.scare._model import SCARE

register(SCARE, SCVIAdapter)
