"""The part of an agent that is root: what may be asked of it, how an agent asks, and the process that answers."""
