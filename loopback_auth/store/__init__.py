"""Keeping token sets: durable, private, and safe when several processes want the same one."""
