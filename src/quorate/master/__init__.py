"""The server: state, transitions, loop, store, API, link to the agents."""
