# What the rule of the report looks up, beside rules/common.smk.
import shlex


def everything():
    """All that is built but the report."""
    names = table_names()
    figures = figure_names()
    return [
        *collect("results/{table}.csv", table=names),
        *collect("results/{table}.png", table=names),
        *collect("results/sheets/{table}.png", table=names),
        *collect("results/{figure}.{end}", figure=figures, end=("csv", "png", "svg")),
        *collect("results/pages/{result}.html", result=result_names()),
        *collect("results/certified/{curves}.csv", curves=curves_names()),
        *sweep_files(),
        "results/summary.md",
    ]


def report_command():
    """Snakemake on all of it once more, with this very configuration."""
    settings = workflow.config_settings
    words = ["snakemake", "everything", "--snakefile", workflow.main_snakefile]
    if settings.configfiles:
        words += ["--configfile", *map(str, settings.configfiles)]
    if settings.config_args:
        words += ["--config", *settings.config_args]
    return shlex.join([*words, "--nolock", "--quiet"])
