"""What people wait for: a login, and reading a stored token; measured beside other tools where there are any."""
