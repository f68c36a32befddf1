"""Training on pairs of which some are wrong, evaluated on true ones."""
