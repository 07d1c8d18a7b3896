"""Training on answers that were drawn and scored before: RRHF and RAFT."""
