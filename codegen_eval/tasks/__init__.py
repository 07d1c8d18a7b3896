"""Small verifiable tasks made here, for search and test-time compute: no downloads."""
