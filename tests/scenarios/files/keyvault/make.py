#!/usr/bin/env python3
"""Makes the files beside it, once: a certificate with key and chain, and PKCS #12 files of them as
OpenSSL writes them. Needs the command `openssl` and its library.

The library is asked directly, since the command can write files with an empty password, but not
with none, as Key Vault's have (PKCS12_create with NULL)."""

import ctypes
import pathlib
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
crypto = ctypes.CDLL("libcrypto.so.3")
for name in ("BIO_new_file", "PEM_read_bio_X509", "PEM_read_bio_PrivateKey", "OPENSSL_sk_new_null",
             "PKCS12_create_ex", "PKCS12_create"):
    getattr(crypto, name).restype = ctypes.c_void_p
PBE_3DES, AES_256, NONE = 146, 427, -1


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


def read(reader, path):
    bio = ctypes.c_void_p(crypto.BIO_new_file(str(path).encode(), b"r"))
    thing = ctypes.c_void_p(reader(bio, None, None, None))
    assert thing.value, path
    return thing


def pkcs12(name, key, cert, others, password, key_pbe, cert_pbe, rounds, digest=None):
    stack = ctypes.c_void_p(crypto.OPENSSL_sk_new_null())
    for other in others:
        crypto.OPENSSL_sk_push(stack, other)
    made = crypto.PKCS12_create(password, b"leaf", key, cert, stack, key_pbe, cert_pbe, rounds, -1, 0)
    made = ctypes.c_void_p(made)
    assert made.value, name
    # Here so that the digest can be chosen, and no password be no password.
    evp = ctypes.c_void_p(getattr(crypto, digest)()) if digest else None
    assert crypto.PKCS12_set_mac(made, password, -1, None, 20, rounds, evp)
    bio = ctypes.c_void_p(crypto.BIO_new_file(str(HERE / name).encode(), b"w"))
    assert crypto.i2d_PKCS12_bio(bio, made)
    crypto.BIO_free_all(bio)


crypto.EVP_sha1.restype = crypto.EVP_sha256.restype = ctypes.c_void_p

with tempfile.TemporaryDirectory() as folder:
    folder = pathlib.Path(folder)
    (folder / "ca").write_text("basicConstraints=critical,CA:true\n")
    (folder / "leaf").write_text("subjectAltName=DNS:api.example.com\n")
    issuer = []
    for name, subject, extensions in (("root", "/CN=Test root", "ca"), ("middle", "/CN=Test middle", "ca"),
                                      ("leaf", "/CN=api.example.com", "leaf")):
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-out", folder / f"{name}.key")
        openssl("req", "-new", "-key", folder / f"{name}.key", "-subj", subject, "-out", folder / f"{name}.csr")
        signed_by = ["-CA", folder / f"{issuer[-1]}.pem", "-CAkey", folder / f"{issuer[-1]}.key",
                     "-CAcreateserial"] if issuer else ["-signkey", folder / f"{name}.key"]
        openssl("x509", "-req", "-in", folder / f"{name}.csr", *signed_by, "-days", "36500",
                "-extfile", folder / extensions, "-out", folder / f"{name}.pem")
        issuer.append(name)
    pem = {name: (folder / f"{name}.pem").read_text() for name in issuer}
    (HERE / "certificate.pem").write_text(pem["leaf"])
    (HERE / "key.pem").write_text((folder / "leaf.key").read_text())
    (HERE / "chain.pem").write_text(pem["middle"] + pem["root"])

    certificates = {name: read(crypto.PEM_read_bio_X509, folder / f"{name}.pem") for name in issuer}
    key = read(crypto.PEM_read_bio_PrivateKey, folder / "leaf.key")
    leaf, middle, root = certificates["leaf"], certificates["middle"], certificates["root"]
    # The chain is out of order, as in files that people import.
    pkcs12("as-key-vault.pfx", key, leaf, [root, middle], None, PBE_3DES, PBE_3DES, 2000, "EVP_sha1")
    pkcs12("clear.pfx", key, leaf, [root, middle], None, NONE, NONE, 1, "EVP_sha1")
    pkcs12("empty-password.pfx", key, leaf, [root, middle], b"", AES_256, AES_256, 2048, "EVP_sha256")
    pkcs12("no-key.pfx", None, None, [leaf, middle, root], None, PBE_3DES, PBE_3DES, 2000, "EVP_sha1")
    pkcs12("with-password.pfx", key, leaf, [middle], b"secret", AES_256, AES_256, 2048, "EVP_sha256")
