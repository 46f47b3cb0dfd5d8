"""Let a model call functions of yours, and read its answer as a value of a type of yours.

What it does: one run with two functions as tools and a dataclass as the answer's form.
Needs: the extra ``structured``, and OPENAI_API_KEY or ANTHROPIC_API_KEY; or, without any key,
``termai-http serve`` in another terminal and the variables that it prints.
Run: python examples/tools.py [MODEL]
"""

from __future__ import annotations

import dataclasses
import sys
from typing import Literal

from termai_http import TermaiHttpError, run_tools

_DEGREES = {"Oslo": 4.5, "Cairo": 31.0}


def temperature(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius") -> float:
    """Measure the temperature in a city.

    Args:
        city: Its name, without the country.
        unit: What to measure in.
    """
    degrees = _DEGREES.get(city, 15.0)
    return degrees if unit == "celsius" else degrees * 9 / 5 + 32


def forecast(city: str, days: int) -> list[str]:
    """Forecast the weather of the next days.

    Args:
        city: Its name, without the country.
        days: How many days.
    """
    return ["sun"] * days


@dataclasses.dataclass
class Advice:
    """What to take along."""

    clothes: list[str]
    umbrella: bool


def main() -> int:
    """Run, and print every function that was called."""
    model = sys.argv[1] if len(sys.argv) > 1 else "gpt-5.5"
    try:
        run = run_tools(
            "What shall I pack for three days in Oslo?",
            model=model,
            tools=[temperature, forecast],
            output=Advice,
            max_rounds=5,
        )
    except TermaiHttpError as error:
        print(f"{model}: {error}", file=sys.stderr)
        return 1
    for called in run.calls:
        print(f"{called.call.name}({called.call.text}) = {called.error or called.result}")
    print(run.parsed)
    print(f"{len(run.replies)} replies, {run.usage.total_tokens} tokens")
    return 0


if __name__ == "__main__":
    sys.exit(main())
