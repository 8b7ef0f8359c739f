"""What may be done to the cloud: policies generated, parsed, linted."""
