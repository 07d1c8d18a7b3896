"""Reward models from preference pairs: k members with own seeds, their scales, and what they are worth."""
