"""The command line, one noun per file."""


def main() -> int:
    """Runs the command line; imports it only then, so that `import quorate.cli` costs nothing."""
    from quorate.cli.app import run

    return run()
