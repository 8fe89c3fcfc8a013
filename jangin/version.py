"""The versions, in one place; this file imports nothing."""

__version__ = "0.1.0"

PROTOCOL = 2
"""Version of what site and server say to each other; a server of version N speaks to sites of N and N - 1.

1: a site does not say its version. 2: each of its requests to the site API does, in `x-jangin-protocol`.
"""
