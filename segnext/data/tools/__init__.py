"""The subcommands of `python -m segnext.data`: check, show, convert, probe."""
