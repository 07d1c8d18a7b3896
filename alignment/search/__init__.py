"""Step-level tree search: trees, selection, pairs out of trees. Callables bring the model."""
