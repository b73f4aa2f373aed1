#!/usr/bin/env python3
"""Makes shapes.json: what the real Key Vault's answers consist of, out of the recordings that
Microsoft ships in the source package azure-keyvault-secrets 4.0.0 on PyPI. Names only, no values.

    pip download --no-deps --no-binary :all: azure-keyvault-secrets==4.0.0
    shapes.py azure-keyvault-secrets-4.0.0.zip >shapes.json   (needs PyYAML)
"""

import json
import sys
import urllib.parse
import zipfile

import yaml


class Loader(yaml.SafeLoader):
    """Recordings of the asynchronous client hold objects of Python; a URL is its state's parts."""


def unknown(loader, _tag, node):
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_sequence(node, deep=True) if isinstance(node, yaml.SequenceNode) else node.value


Loader.add_multi_constructor("tag:yaml.org,2002:python/", unknown)


def path_of(request):
    uri = request.get("uri") or request.get("url")
    if isinstance(uri, str):
        return urllib.parse.urlsplit(uri).path
    split = uri["state"][0] if isinstance(uri["state"][0], (list, tuple)) else uri["state"]
    return split[2]


def members(value, at=""):
    if isinstance(value, dict):
        for name, below in value.items():
            yield f"{at}/{name}"
            # The user's own names.
            if name != "tags":
                yield from members(below, f"{at}/{name}")


def kind(request, code):
    parts = [part for part in path_of(request).split("/") if part]
    if code == 401:
        return "challenge"
    if request["method"] != "GET" or parts[0] != "secrets":
        return None
    if code == 404:
        return "not-found"
    return "secret" if code == 200 and 2 <= len(parts) <= 3 and parts[-1] != "versions" else None


found = {}
with zipfile.ZipFile(sys.argv[1]) as archive:
    for name in archive.namelist():
        if not name.endswith(".yaml"):
            continue
        for interaction in yaml.load(archive.read(name), Loader)["interactions"]:
            request, answer = interaction["request"], interaction["response"]
            code = answer["status"]["code"]
            which = kind(request, code)
            if which:
                headers = {header.lower() for header in answer["headers"]}
                body = set(members(json.loads(answer["body"]["string"])))
                found.setdefault((which, code), []).append((headers, body))

shapes = {}
for (which, code), answers in sorted(found.items()):
    headers, bodies = zip(*answers)
    shapes[which] = {
        "recorded": len(answers),
        "status": code,
        "headers": sorted(set.intersection(*headers)),
        "members": sorted(set.intersection(*bodies)),
        "members_of_some": sorted(set.union(*bodies) - set.intersection(*bodies)),
    }
print(json.dumps(shapes, indent=2))
