"""The process beside each member, which outlives the agent, and the agent's end of the conversation with it."""
