"""Sessions: what a person types, and every line that comes back, held word by word."""
