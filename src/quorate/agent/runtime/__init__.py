"""How a member's command runs: as a process of this machine, or in a container of its engine."""
