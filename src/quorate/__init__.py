"""Quorate runs distributed training on machines you own or rent, and proves the network before the first step."""

__version__ = "0.1.0"
