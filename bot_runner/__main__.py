"""python -m bot_runner: hosts the bots that the registry configures, until SIGTERM or SIGINT drains it."""

from chassis import lifeline


def main() -> int:
    """Returns the exit code: 0 after a drain, 1 when this worker may not serve."""
    line = lifeline.hold()
    # After the lifeline: what follows takes a second to import, and a supervisor may be gone by then.
    import asyncio

    from bot_runner.process import serve

    return asyncio.run(serve(line))


if __name__ == "__main__":
    from chassis.settings import run_main

    run_main(main)
