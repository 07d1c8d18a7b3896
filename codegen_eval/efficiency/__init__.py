"""How fast right programs are, against a reference, on inputs of growing size."""
