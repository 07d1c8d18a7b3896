"""Losses, rewards, trainers and the console script. Nothing heavy is loaded here."""

__version__ = "0.1.0"
