"""The logger of the package.

It stands below that of scvi-tools: ``scvi.settings.verbosity`` decides what is said, and scvi-tools where it is written.
"""

import logging

logger = logging.getLogger("scvi.lucidvi")
