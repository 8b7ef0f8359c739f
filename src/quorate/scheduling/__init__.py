"""Pure decisions: queue order, gang placement, reservation."""
