"""Talking to servers: the token endpoint, and the API behind the access token."""
