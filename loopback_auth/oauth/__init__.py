"""The protocol, pure: requests are built, responses are parsed. No clock, randomness, files or sockets here."""
