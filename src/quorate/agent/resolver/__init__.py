"""The DNS of allocations: what members ask goes to a process that is nobody, within their egress."""
