"""The command line, one noun per file."""


def main() -> int:
    """Runs the command line; imports it only then, so that `import quorate.cli` costs nothing."""
    import gc

    # Imports make a hundred thousand objects that stay: looking through them over and over, and once more at the end,
    # costs a tenth of a short command.
    gc.set_threshold(200_000, 20, 50)
    from quorate.cli.app import run

    try:
        return run()
    finally:
        gc.freeze()
