"""Names of the stores that tests of reading and of archives ask for."""

BUCKET = "of-tests"
CLEAN, ATTACKED = "images/imagenet/0-of-1", "attack/imagenet/pgd-linf4/resnet50/0-of-1"
CLASSIFIED = "classify/imagenet/{}/none/none/resnet50/0-of-1"
