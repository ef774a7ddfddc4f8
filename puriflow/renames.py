"""What had another name before: an old name is answered by one line with the new one."""

BEHIND_RESULTS = False

# By section of the configuration: kinds.
KINDS_RENAMED: dict[str, dict[str, str]] = {
    "attacks": {"pgd-eot": "pgd"},
}
# The options by which a new kind does what the old one did.
KINDS_GIVEN: dict[str, str] = {"pgd-eot": " with random_start: false"}

# By section and kind: options.
ATTACK = {"steps": "n_iter", "draws": "eot_iter"}
SOLVER = dict.fromkeys(("step", "step_size"), "evaluations")
# What a new option says otherwise than the old one did.
OPTIONS_GIVEN: dict[str, str] = {"evaluations": ", a count: of the network's, t' without it"}
APGD = {**ATTACK, "restarts": "n_restarts", "targets": "n_target_classes"}
OPTIONS_RENAMED: dict[str, dict[str, dict[str, str]]] = {
    "attacks": {
        "pgd": {**ATTACK, "step": "step_size"},
        "bpda-eot": {
            "step": "step_size",
            "steps": "n_iter",
            "attack_draws": "eot_iter",
            "defence_draws": "n_draws",
        },
        "apgd": APGD,
        "square": {"queries": "n_queries"},
        "autoattack": {**APGD, "queries": "n_queries"},
        "diffattack": ATTACK,
    },
    "purifiers": {
        "vpsde": SOLVER,
        "vesde": SOLVER,
        "ode": SOLVER,
        "gdmp": {"scale": "guidance_scale"},
        "ldsde": {"rate": "lambda_ld"},
        "scoreopt": {"iterations": "n_iter"},
    },
    "restorers": {
        "drln": {"features": "n_feats", "value_range": "rgb_range"},
        "edsr": {"features": "n_feats", "blocks": "n_resblocks"},
        "esrgan": {"features": "num_feat", "blocks": "num_block", "growth": "num_grow_ch"},
        "mdsr": {"features": "n_feats", "blocks": "n_resblocks"},
    },
    "classifiers": {
        "dm-wide-resnet": {"classes": "num_classes"},
        "wide-resnet": {"width": "widen_factor", "classes": "num_classes", "dropout": "dropRate"},
    },
}

# By their place in what is validated, a track or the recipe of a training: keys of YAML files.
KEYS_RENAMED: dict[str, str] = {
    "adversary.step": "step_size",
    "adversary.steps": "n_iter",
    "evaluations.*.draws": "n_draws",
}

# Commands.
STAGES = ("images", "attack", "restore", "classify", "evaluate", "certify")
COMMANDS_RENAMED: dict[str, str] = {
    **{name: f"stage {name}" for name in STAGES},
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
