"""Text from causal language models."""
