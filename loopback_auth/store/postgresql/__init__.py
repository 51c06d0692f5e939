"""The PostgreSQL store: accounts that many machines share, spent by compare-and-set."""
