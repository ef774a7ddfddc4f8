"""What had another name before: an old name is answered by one line with the new one."""

BEHIND_RESULTS = False

# By section of the configuration: kinds.
KINDS_RENAMED: dict[str, dict[str, str]] = {}

# By section and kind: options.
OPTIONS_RENAMED: dict[str, dict[str, dict[str, str]]] = {
    "purifiers": {
        "vpsde": {"step": "step_size"},
        "vesde": {"step": "step_size"},
        "ode": {"step": "step_size"},
        "gdmp": {"scale": "guidance_scale"},
        "ldsde": {"rate": "lambda_ld"},
        "scoreopt": {"iterations": "n_iter"},
    },
}

# Commands.
COMMANDS_RENAMED: dict[str, str] = {}
