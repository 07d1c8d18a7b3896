"""Meta reinforcement fine-tuning (arXiv 2503.07572): episodes, progress, regret. Pure functions."""
