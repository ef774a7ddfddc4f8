# What the rule of wall times looks up, beside rules/common.smk.
from puriflow.results import timing as timings


def timing_file(wildcards):
    """The file that says what is timed."""
    return str(TIMINGS / f"{wildcards.timing}.yaml")


@orderly
def roles_of_timing(wildcards):
    """What a timing says of the roles that it names, as JSON."""
    timing = timings.load_timing(timing_file(wildcards))
    return json.dumps(timings.served(timing, TRACK), sort_keys=True)


@orderly
def images_of_timing(wildcards):
    """The manifest of the images that are timed."""
    timing = timings.load_timing(timing_file(wildcards))
    folder = timings.images_folder(timing, timings.served(timing, TRACK))
    return f"results/{folder}/manifest.json"


def parts_of_timing(wildcards):
    """The specification of everything that is timed, by `kind name`."""
    timing = timings.load_timing(timing_file(wildcards))
    roles = timings.served(timing, TRACK)
    return {key: role["spec"] for key, role in roles.items() if role.get("spec")}


@orderly
def weights_of_timing(wildcards):
    """The zoo's files that the timed parts load."""
    return zoo_files(parts_of_timing(wildcards))


@orderly
def version_of_timing(wildcards):
    """A hash of the code that is timed, and of the clock's."""
    specs = parts_of_timing(wildcards).items()
    named = [modules_of(FAMILIES[key.split()[0]], spec) for key, spec in specs]
    return code_hash("puriflow.results.timing", *sum(named, []))
