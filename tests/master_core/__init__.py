"""The master's core: transitions told as stories, the store held to its promises."""
