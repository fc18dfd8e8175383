"""What training reads: shards, their manifest, windows of clips, chains of clips, sizes and order."""
