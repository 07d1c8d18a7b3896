"""Pure functions on arrays: estimators and their uncertainty."""
