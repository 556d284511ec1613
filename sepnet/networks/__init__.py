"""Networks from tensor to tensor."""
