"""Every parser meets anything: what parses obeys its rules, all else is one of our errors, said in printable ASCII."""
