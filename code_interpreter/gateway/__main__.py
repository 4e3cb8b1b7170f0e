"""``python -m code_interpreter.gateway --config '<GuestConfig JSON>'``"""

import argparse

from code_interpreter.gateway.main import run
from code_interpreter.guest.config import GuestConfig

parser = argparse.ArgumentParser(prog="code_interpreter.gateway")
parser.add_argument("--config", required=True, help="GuestConfig as JSON")
run(GuestConfig.load(parser.parse_args().config))
