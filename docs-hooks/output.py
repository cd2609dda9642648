"""A fence ```run shows what its command prints now, so that it is never out of date."""

import os
import shlex
import subprocess
from html import escape

from pymdownx.superfences import SuperFencesException

PLAIN = {"TYPER_USE_RICH": "0", "COLUMNS": "80"}


def on_config(config):
    fences = config.mdx_configs.setdefault("pymdownx.superfences", {})
    fences.setdefault("custom_fences", []).append({"name": "run", "class": "", "format": shown})


def shown(command: str, *_, **__) -> str:
    try:
        done = subprocess.run(
            shlex.split(command), capture_output=True, text=True, check=True, env=os.environ | PLAIN
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise SuperFencesException(f"{command}: {error} (make site has it on the path)") from error
    return f"<pre><code>$ {escape(command)}\n{escape(done.stdout.rstrip())}\n</code></pre>"
