"""What had another name before: an old name is answered by one line with the new one."""

BEHIND_RESULTS = False

# By section of the configuration: kinds.
KINDS_RENAMED: dict[str, dict[str, str]] = {}

# By section and kind: options.
OPTIONS_RENAMED: dict[str, dict[str, dict[str, str]]] = {
    "restorers": {
        "drln": {"features": "n_feats", "value_range": "rgb_range"},
        "edsr": {"features": "n_feats", "blocks": "n_resblocks"},
        "esrgan": {"features": "num_feat", "blocks": "num_block", "growth": "num_grow_ch"},
        "mdsr": {"features": "n_feats", "blocks": "n_resblocks"},
    },
    "classifiers": {
        "dm-wide-resnet": {"classes": "num_classes"},
        "wide-resnet": {
            "width": "widen_factor",
            "classes": "num_classes",
            "dropout": "dropRate",
        },
    },
}

# Commands.
COMMANDS_RENAMED: dict[str, str] = {
    **{name: f"stage {name}" for name in ("images", "attack", "restore", "classify")},
    **{name: f"stage {name}" for name in ("evaluate", "certify")},
    "table": "result config/tables/NAME.yaml",
    "plot": "result config/tables/NAME.yaml",
    "sheet": "result config/tables/NAME.yaml",
    "timing": "result config/timings/NAME.yaml",
    "figure": "result config/figures/NAME.yaml",
    "sweep": "result config/sweeps/NAME.yaml",
    "radii": "result config/certified/NAME.yaml",
    "claims": "result config/claims.yaml --about NAME",
    "summary": "result config/claims.yaml",
}
