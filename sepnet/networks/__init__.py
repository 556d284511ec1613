"""Networks: tensors in, tensors out; each file holds one architecture."""
