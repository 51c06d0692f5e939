"""Use-case: many accounts from a list, one after another or several at once, on one loopback server."""
