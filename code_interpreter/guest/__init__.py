"""What every sandbox has besides envd and the gateway: its init, and the launching of user code."""
