"""GCP roles and bindings: generated for master and agents, and linted."""
