"""Log in to an OAuth 2.0 authorization server with one command, and keep the tokens usable."""
