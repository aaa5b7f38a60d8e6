"""``python -m cloudwatch_handler``, and the command ``cloudwatch-handler``."""

from __future__ import annotations

import sys

#: What an optional dependency comes with.
_EXTRAS = {
    **dict.fromkeys(("click", "rich"), "cli,local" if "demo" in sys.argv[1:2] else "cli"),
    **dict.fromkeys(("moto", "flask", "flask_cors", "werkzeug"), "cli,local"),
}


def main() -> None:
    """Run the command line, or say what has to be installed for it (exit status 2)."""
    try:
        from .cli import cli

        cli(prog_name="cloudwatch-handler")
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _EXTRAS:
            raise
        install = f"pip install 'cloudwatch_handler[{_EXTRAS[missing]}]'"
        print(f"cloudwatch-handler: {missing} is not installed; {install} brings it", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
