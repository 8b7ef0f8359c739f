"""The companion of a member: names, rendezvous, watch, launchers; standard library only."""
