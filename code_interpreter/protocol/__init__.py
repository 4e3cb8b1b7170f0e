"""Wire types, one module a protocol. Imports nothing else of this package."""
