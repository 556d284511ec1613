"""``sepnet <command>``: the installed command, which works outside a checkout, too."""

from __future__ import annotations

import difflib
import importlib
import sys

import sepnet
from sepnet.cli.help import ASKS_FOR_HELP, SUMMARIES, command_help, overview

MODULES = {name: f"sepnet.cli.{name}" for name in SUMMARIES} | {"eval": "sepnet.cli.evaluate"}
BAD_INPUT = 2


def main() -> None:
    """Run the command that the first word names, with the rest of the words."""
    words = sys.argv[1:]
    if not words or words[0] in (*ASKS_FOR_HELP, "help"):
        print(overview())
    elif words[0] == "--version":
        print(f"sepnet {sepnet.__version__}")
    elif words[0] in MODULES and any(word in ASKS_FOR_HELP for word in words):
        print(command_help(words[0]))  # at once: what the command itself needs takes seconds to import
    elif words[0] in MODULES:
        module = importlib.import_module(MODULES[words[0]])
        # Lightning starts the other processes of a training by this file and the words after it.
        sys.argv = [str(module.__file__), *words[1:]]
        module.main()
    else:
        near = difflib.get_close_matches(words[0], MODULES, 1)
        remedy = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(MODULES)}"
        print(f"error: sepnet has no command {words[0]!r}: {remedy}", file=sys.stderr)
        sys.exit(BAD_INPUT)


if __name__ == "__main__":
    main()
