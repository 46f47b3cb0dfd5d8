"""Configure the process-wide client once, at start-up.

What it does: sets deadline, retries and pool for every later call, logs retries, and closes the
client at the end. In Django this belongs into AppConfig.ready() (it opens no socket there).
Needs: OPENAI_API_KEY; or ``termai-http serve`` and the variables that it prints.
Run: python examples/startup_configuration.py
"""

from __future__ import annotations

import logging

from termai_http import (
    AlreadyInitializedError,
    HttpClientConfig,
    RetryConfig,
    chat,
    client,
    close,
    initialize,
)


def configure() -> None:
    """Set up the client; harmless where something else did so before."""
    config = HttpClientConfig(
        timeout=45,
        max_connections=64,
        retry=RetryConfig(max_attempts=4, base_delay=0.5, max_delay=10),
    )
    try:
        initialize(config)
    except AlreadyInitializedError:
        logging.getLogger(__name__).warning("the client was in use before it was configured")


def main() -> None:
    """Configure, call, close."""
    logging.basicConfig(level=logging.WARNING)
    configure()
    print(chat("Say hello.", model="gpt-5.5").text)
    print(f"timeout {client().config.timeout:g} s")
    close()


if __name__ == "__main__":
    main()
