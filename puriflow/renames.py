"""What had another name before: an old name is answered by one line with the new one."""

BEHIND_RESULTS = False

# By section of the configuration: kinds.
KINDS_RENAMED: dict[str, dict[str, str]] = {}

# By section and kind: options.
OPTIONS_RENAMED: dict[str, dict[str, dict[str, str]]] = {}

# Commands.
COMMANDS_RENAMED: dict[str, str] = {}
