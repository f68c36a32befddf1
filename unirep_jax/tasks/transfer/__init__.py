"""A representation evaluated on other data sets."""
