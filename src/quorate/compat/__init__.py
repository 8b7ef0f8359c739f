"""Other systems' files and variables, translated at the door."""
