"""The kernel gateway: runs cells in Jupyter kernels, for HTTP and WebSocket clients.

Runs inside every sandbox as a supervisor process. `execution` decides what becomes of a
cell and does no I/O; everything else here carries bytes for it.
"""
