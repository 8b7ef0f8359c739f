"""One machine: link, reconcile, runtime, devices, logs."""
