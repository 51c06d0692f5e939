"""Attacks: what somebody who means harm may try, or find afterwards."""
