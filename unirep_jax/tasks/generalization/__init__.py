"""Closed-set and open-set cross-modal generalisation."""
