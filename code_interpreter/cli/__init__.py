"""The command ``code-interpreter``."""
