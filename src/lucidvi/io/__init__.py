"""Links and sets as files that genome browsers and other packages read."""

from lucidvi.io._bed import write_bed
from lucidvi.io._bedpe import read_bedpe, write_bedpe
from lucidvi.io._crispri_design import crispri_design
from lucidvi.io._interact import read_interact, write_interact
from lucidvi.io._link_table import write_link_table

__all__ = [
    "crispri_design",
    "read_bedpe",
    "read_interact",
    "write_bed",
    "write_bedpe",
    "write_interact",
    "write_link_table",
]
