"""tiny-coder, the embedded model: tokenizer, architecture, data and training loop, from nothing."""
