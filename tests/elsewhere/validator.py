"""Validates a crate by the reference validator, without a network: a line for each problem.

    python validator.py CRATE CONTEXT

It runs in an environment of its own (tests/beside.txt). CONTEXT is the file of RO-Crate's JSON-LD
context, which the validator would fetch; any other request is refused.
"""

import io
import sys

import requests
from requests.adapters import HTTPAdapter
from rocrate_validator import services
from urllib3 import HTTPResponse

CONTEXT = "https://w3id.org/ro/crate/1.3/context"


class NoNetwork(HTTPAdapter):
    """Answers for the context, and for nothing else."""

    def send(self, request, **_):
        if request.url != CONTEXT:
            raise requests.ConnectionError(f"no network: {request.url}")
        with open(sys.argv[2], "rb") as file:
            body = io.BytesIO(file.read())
        headers = {"Content-Type": "application/ld+json"}
        answer = HTTPResponse(body, headers, status=200, preload_content=False)
        return self.build_response(request, answer)


requests.Session.get_adapter = lambda *_, **__: NoNetwork()
settings = services.ValidationSettings(
    rocrate_uri=sys.argv[1], profile_identifier="ro-crate-1.3", no_cache=True
)
result = services.validate(settings)
for issue in result.get_issues():
    print(issue.message)
print("valid" if result.passed() else "invalid")
