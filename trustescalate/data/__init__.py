"""Read items and annotations, assign roles, check quality, import and annotate."""
