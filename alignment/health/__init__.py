"""What a run is doing and why it stopped: beats, hangs, stragglers, spikes, whole checkpoints, restarts."""
