"""The command line, one noun per file."""


def main() -> int:
    """Runs the command line; imports it only then, so that `import quorate.cli` costs nothing."""
    import gc

    # Imports make ten thousands of objects that stay: looking through them over and over costs a tenth of the start.
    gc.set_threshold(50_000, 20, 50)
    from quorate.cli.app import run

    return run()
