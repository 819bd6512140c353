"""`python -m modelbuilder` is the command `modelbuilder`."""

from modelbuilder.cli import main

main()
