"""Reads with Microsoft's own client what is named on standard input, and prints what came of it.

    {"vault": "https://…", "login": "secret" | "federated" | "machine",
     "secrets": [[name, version or null], …], "certificates": [name, …]}
"""

import base64
import json
import os
import sys

from azure.core.exceptions import HttpResponseError
from azure.identity import ClientSecretCredential, ManagedIdentityCredential, WorkloadIdentityCredential
from azure.keyvault.certificates import CertificateClient
from azure.keyvault.secrets import SecretClient
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

asked = json.load(sys.stdin)
ids = {"tenant_id": os.environ.get("AZURE_TENANT_ID"), "client_id": os.environ.get("AZURE_CLIENT_ID")}
if asked["login"] == "secret":
    credential = ClientSecretCredential(client_secret=os.environ["AZURE_CLIENT_SECRET"], **ids)
elif asked["login"] == "federated":
    credential = WorkloadIdentityCredential()
else:
    credential = ManagedIdentityCredential()

secrets = SecretClient(asked["vault"], credential, retry_total=0)
certificates = CertificateClient(asked["vault"], credential, retry_total=0)


def failure(error):
    return {"status": error.status_code, "error": type(error).__name__}


def secret(name, version):
    try:
        got = secrets.get_secret(name, version)
        return {"value": got.value, "version": got.properties.version}
    except HttpResponseError as error:
        return failure(error)


def certificate(name):
    try:
        got = certificates.get_certificate(name)
        value = secrets.get_secret(name, got.properties.version).value
    except HttpResponseError as error:
        return failure(error)
    # As Microsoft's own sample does, parse_certificate.py.
    key, leaf, others = pkcs12.load_key_and_certificates(base64.b64decode(value), password=None)
    assert leaf.public_bytes(Encoding.DER) == bytes(got.cer)
    key = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return {
        "certificate": leaf.public_bytes(Encoding.PEM).decode(),
        "key": key.decode(),
        "others": [other.public_bytes(Encoding.PEM).decode() for other in others],
    }


print(json.dumps({
    "secrets": [secret(name, version) for name, version in asked["secrets"]],
    "certificates": [certificate(name) for name in asked["certificates"]],
}))
