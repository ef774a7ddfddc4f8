"""The leaderboard as one page that needs neither a server nor a network.

Rows are records of `puriflow.benchmark`, of this track's stores and of anybody else's. Only rows of
one protocol are ranked, which is what `protocols` says; what stores add to a record is in `ours`.
"""

from puriflow.site.page import write_site

BEHIND_RESULTS = False
__all__ = ["write_site"]
