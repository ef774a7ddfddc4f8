"""The JSON schema of a track, for editors: python -m puriflow.config.schema > FILE.

The file is workflow/schemas/config.schema.json.
"""

import json

from puriflow.config.track import Config


def schema() -> str:
    """The schema as text."""
    return json.dumps(Config.model_json_schema(), indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
