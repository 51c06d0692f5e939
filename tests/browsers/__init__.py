"""Real browsers for tests: Chromium over WebDriver, Firefox over WebDriver BiDi, one interface for both."""
