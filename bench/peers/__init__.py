"""Other systems, started on this machine so that they are measured beside us in the same run."""
