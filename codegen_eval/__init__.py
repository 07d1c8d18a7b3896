"""Problems, generation, samples, pass matrices, ranking, pairs, metrics and reports.

Nothing heavy is loaded here: import the submodule that you need.
"""
