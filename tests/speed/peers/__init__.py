"""Other tools that log in, each in its documented minimal use; each is run by a Python of its own.

`python -m tests.speed.peers.NAME ORIGIN`: logs in at ORIGIN/authorize and ORIGIN/token, and prints the access token.
"""
