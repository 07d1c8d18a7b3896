"""Rankers: which of a problem's programs are probably right, from nothing but programs x tests."""
