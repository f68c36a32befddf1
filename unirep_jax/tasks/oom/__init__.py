"""Out-of-modal generalisation."""
