"""A whole cluster in one process under one seed: shipped master core, agent core, codec and store; clock and network are not."""
