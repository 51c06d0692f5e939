from .fixtures import browser, browser_options, chromium, firefox, opener

__all__ = ["browser", "browser_options", "chromium", "firefox", "opener"]
