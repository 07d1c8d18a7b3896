"""Preference pairs: built from rankings and matrices, and (apart from that) audited against hidden tests."""
