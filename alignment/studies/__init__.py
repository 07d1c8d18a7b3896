"""What `codealign reproduce NAME` runs: one file a paper."""
