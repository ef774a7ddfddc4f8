"""Records of others, as files."""

import json

from puriflow.metrics.accuracy import wilson


def written(folder, record, name="theirs.json", **changes):
    file = folder / name
    file.write_text(json.dumps({**record, **changes}))
    return file


def another(record, name, **changes):
    """Somebody else's record of another defence, under the same protocol."""
    defence = {**record["defence"], "name": name, "sha256": "ab" * 32, "network_evaluations": 7}
    return {**record, "defence": defence, "title": f"{name}, as published", **changes}


def judged(record, standard, robust):
    """A record of one attack with other outcomes, an image each, by its one rule."""
    (rule,), (attack,) = record["robust"], record["attacks"]
    label = {"label": 0, "attack": attack["name"]}
    pairs = zip(standard, robust, strict=True)
    images = [{**label, "standard": {rule: s}, "robust": {rule: r}} for s, r in pairs]
    n = len(images)
    said = {
        what: {rule: {"share": sum(of) / n, "interval": wilson(sum(of), n), "spread": None}}
        for what, of in (("standard", standard), ("robust", robust))
    }
    attacks = [{**attack, "robust": said["robust"]}]
    return {**record, **said, "n": n, "images": images, "attacks": attacks}


def attacked(record, **changes):
    """A record whose one attack is another; its options are changed, and not replaced."""
    (attack,) = record["attacks"]
    options = {**attack["options"], **changes.pop("options", {})}
    return {**record, "attacks": [{**attack, **changes, "options": options}]}
