"""Foreign files read as items, annotations and judgments. No file of ours is written here."""
