"""Texts of the parameters of ``train`` that the models share; they say what scvi-tools says."""

import inspect
from collections.abc import Callable

_PARTS = {
    "devices": """
accelerator
    Type of device: ``"cpu"``, ``"gpu"``, ``"tpu"``, ``"mps"`` or ``"auto"``.
devices
    Devices to use: their number, a list of their indices, ``-1`` for all, or ``"auto"``.
""",
    "split": """
validation_size
    Share of the cells for validation; by default all cells that are not trained on. If ``train_size +
    validation_size < 1``, the remaining cells are test cells.
shuffle_set_split
    Whether to draw the split at random. ``False``: validation, training and test cells in the order of the data.
""",
    "loading": """
load_sparse_tensor
    Whether to bring sparse data to the device as sparse tensors.
batch_size
    Number of cells in a minibatch.
""",
    "kwargs": """
datasplitter_kwargs
    Further arguments of :class:`~scvi.dataloaders.DataSplitter`, for example ``drop_last``, or ``external_indexing``:
    a list of the positions of the training, validation and test cells.
plan_config
    Mapping or configuration object with arguments of the training plan. Those of ``plan_kwargs`` take precedence.
""",
    "trainer": """
datamodule
    Data module of scvi-tools, such as ``AnnbatchDataModule``, for a model that was created with its
    ``registry``. It is read once before the first step, for the statistics of the training cells. Not for GRIDS.
trainer_config
    Mapping or configuration object with arguments of :class:`~scvi.train.Trainer`. Those given by name take
    precedence.
**trainer_kwargs
    Further arguments of :class:`~scvi.train.Trainer`, for example ``early_stopping_monitor``,
    ``early_stopping_patience``, ``check_val_every_n_epoch`` or ``enable_progress_bar``.
""",
}


def document_train[F: Callable](function: F) -> F:
    """Insert the shared texts into a docstring, where it says ``%(devices)s`` and the like."""
    parts = {name: text.strip("\n") for name, text in _PARTS.items()}
    function.__doc__ = inspect.cleandoc(function.__doc__ or "") % parts
    return function
