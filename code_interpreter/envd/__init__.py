"""envd: processes and files of a sandbox, for clients outside it (Connect RPC and HTTP)."""
