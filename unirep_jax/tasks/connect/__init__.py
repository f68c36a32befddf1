"""Connection of two contrastive spaces."""
