"""The HTTP API under /api/v1 and what agents ask over HTTP: thin, one file for each noun."""
