"""What the package says: progress through the logger, doubts about a result as warnings.

The logger stands below that of scvi-tools: ``scvi.settings.verbosity`` decides what is said, and scvi-tools where it is
written.
"""

import logging
import warnings
from pathlib import Path

logger = logging.getLogger("scvi.lucidvi")
_PACKAGE = str(Path(__file__).parent)


def warn(message: str, *values: object) -> None:
    """Warn the caller of the package; ``message`` is a format with a place for each value."""
    warnings.warn(
        message % values if values else message, UserWarning, skip_file_prefixes=(_PACKAGE,)
    )
