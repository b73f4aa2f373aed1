"""Reads from a Conjur with CyberArk's own client (PyPI: conjur-api).

    conjur.py URL ACCOUNT LOGIN API_KEY ID...

Prints one JSON object: "one" has each variable's value (base64) or the status of the
refusal, "batch" the values of all of them in one call (text) or its status,
"version_1" the first one's first version (base64).
"""

import asyncio
import base64
import json
import sys

from conjur_api import Client
from conjur_api.errors.errors import HttpStatusError
from conjur_api.models import ConjurConnectionInfo, CredentialsData, SslVerificationMode
from conjur_api.providers import AuthnAuthenticationStrategy, SimpleCredentialsProvider


async def read(call, *arguments, **named):
    try:
        value = await call(*arguments, **named)
    except HttpStatusError as refused:
        return refused.status
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


async def main(url, account, login, api_key, *ids):
    provider = SimpleCredentialsProvider()
    provider.save(CredentialsData(machine=url, username=login, api_key=api_key))
    client = Client(
        ConjurConnectionInfo(conjur_url=url, account=account),
        ssl_verification_mode=SslVerificationMode.INSECURE,
        authn_strategy=AuthnAuthenticationStrategy(provider),
    )
    try:
        first = await read(client.get, ids[0], version="1")
    except Exception as failure:  # The client has more kinds of errors than it names.
        print(json.dumps({"login": type(failure).__name__}))
        return
    print(json.dumps({
        "one": {name: await read(client.get, name) for name in ids},
        "batch": await read(client.get_many, *ids),
        "version_1": first,
    }))


asyncio.run(main(*sys.argv[1:]))
