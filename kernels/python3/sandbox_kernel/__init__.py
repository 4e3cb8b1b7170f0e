"""The sandbox's Python kernel: ipykernel's, with outputs as structured data and low latency."""
