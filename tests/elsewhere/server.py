"""A server of S3 on a free port of this machine, until its input ends.

It runs in an environment of its own (tests/beside.txt), and says in a line of JSON its address, and
the keys of a user without rights.
"""

import json
import sys

import boto3
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "http://{}:{}".format(*server.get_host_and_port())
owner = {"aws_access_key_id": "mine", "aws_secret_access_key": "secret"}
iam = boto3.client("iam", endpoint_url=address, region_name="us-east-1", **owner)
iam.create_user(UserName="stranger")
key = iam.create_access_key(UserName="stranger")["AccessKey"]
said = {"address": address, "stranger": [key["AccessKeyId"], key["SecretAccessKey"]]}
print(json.dumps(said), flush=True)
sys.stdin.read()
server.stop()
