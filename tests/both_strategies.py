"""The command line's training with DDP and then with FSDP: `torchrun -m both_strategies OVERRIDE...`."""

import sys

import toy_backbone  # noqa: F401 (its networks)

from tokenface import cli

STRATEGIES = ("ddp", "fsdp")

if __name__ == "__main__":
    for strategy in STRATEGIES:
        code = cli.run(["train", *sys.argv[1:], f"run.name={strategy}", f"run.strategy={strategy}"])
        if code:
            sys.exit(code)
