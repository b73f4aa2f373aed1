"""moto's server with what AWS has and moto leaves open about who may do what.

moto checks signatures and policies by itself, but never says which secret a call is about, so that a
policy could allow all secrets or none; and it wants a signature from who logs in with a web identity,
which is how one gets to have keys for one. Who prepares a test is told by a word in a header and
needs no keys.
"""

import os

from moto.core.authorization import ActionAuthenticatorMixin
from moto.secretsmanager.responses import SecretsManagerResponse
from moto.server import main

OPERATOR = os.environ["OPERATOR"]
check = ActionAuthenticatorMixin._authenticate_and_authorize_action


def check_unless_public(self, *args, **kwargs):
    if self.headers.get("x-operator") == OPERATOR:
        return
    if self._get_action() == "AssumeRoleWithWebIdentity":
        return
    check(self, *args, **kwargs)


def resource(self):
    name = self._get_param("SecretId")
    if name is None:
        return "*"
    secret = self.backend.secrets.get(name)
    return secret.arn if secret else f"{ARN}:{self.region}:{self.current_account}:secret:{name}"


ARN = "arn:aws:secretsmanager"
ActionAuthenticatorMixin._authenticate_and_authorize_action = check_unless_public
SecretsManagerResponse._determine_resource = resource
main()
