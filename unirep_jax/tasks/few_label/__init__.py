"""Few-label classification of one modality."""
