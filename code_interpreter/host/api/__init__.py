"""The control plane's REST API, one module a noun."""
