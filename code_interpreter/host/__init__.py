"""What runs on the machine: control plane, store, lifecycle, edge and runtimes."""
