"""`python -m loopback_auth`, and the console script."""

from __future__ import annotations

from loopback_auth.cli.main import main

if __name__ == "__main__":
    main()
