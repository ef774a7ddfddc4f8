"""Judging anybody's defence: published attacks, fresh answers, and a record of what came out."""
