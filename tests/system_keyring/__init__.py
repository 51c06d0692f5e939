"""Accounts in the system's keyring: a real Secret Service, keyrings that misbehave, a kill at every call."""
