"""The JSON schema of a track, for editors: python -m puriflow.config.schema > FILE.

The file is workflow/schemas/config.schema.json.
"""

import json

from puriflow.config.track import Config


def schema() -> str:
    """The schema as text; a track that extends another may leave everything out."""
    found = Config.model_json_schema()
    base = {"type": "string", "description": "file of a track that this one extends"}
    found["properties"] = {"extends": base, **found["properties"]}
    del found["required"]
    return json.dumps(found, indent=1) + "\n"


if __name__ == "__main__":
    print(schema(), end="")
