"""What the cloud permissions promise."""
