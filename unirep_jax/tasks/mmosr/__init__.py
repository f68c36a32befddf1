"""Multimodal open-set recognition."""
