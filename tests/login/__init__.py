"""Logging in, from outside: the real command, a browser that goes step by step, real servers and real signals."""
