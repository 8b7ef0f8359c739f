"""Who may talk to whom: catalogue, plan, ports, rules, audit, findings."""
