"""Private networks of allocations on one machine: hubs, sandboxes and their rules, made to match what is desired."""
