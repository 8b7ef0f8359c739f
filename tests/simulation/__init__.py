"""A whole cluster in one process under one seed: the shipped cores, codec and store, a simulated clock and network."""
