"""``python -m code_interpreter.envd --config '<GuestConfig JSON>'``"""

from __future__ import annotations

import argparse

from code_interpreter.envd.main import run
from code_interpreter.guest.config import GuestConfig

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="envd", description="Processes and files of a sandbox.")
    parser.add_argument("--config", required=True, help="a GuestConfig as JSON")
    run(GuestConfig.load(parser.parse_args().config))
