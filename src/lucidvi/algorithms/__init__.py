"""Mathematics of the explanations: tensors in, tensors out; no AnnData, no scvi-tools."""
