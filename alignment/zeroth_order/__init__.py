"""Training by forward passes alone: directions from seeds, estimators, sparse masks, the replayable log."""
