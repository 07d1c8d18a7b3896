"""One file a subcommand of `codealign`: a config, `run(config)` and `main(argv)`."""
