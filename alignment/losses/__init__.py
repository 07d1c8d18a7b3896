"""Losses on preference data: pure functions on log-probabilities, chosen by name (`base.make_loss`)."""
