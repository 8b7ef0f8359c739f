"""AWS policies: generated for master and agents, linted, and asked what they reach."""
