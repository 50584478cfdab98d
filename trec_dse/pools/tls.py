"""Encryption between a search and its workers: credentials for gRPC, and in words why a connection is refused.

Both sides may have a certificate with its key, and that of the authority which signs those of the other side. gRPC says
little about a handshake that fails, so what may be wrong is looked for before, in the files, and after, by a handshake
of our own.
"""

import socket
import ssl
from pathlib import Path
from typing import Any

from trec_dse.errors import InputError
from trec_dse.settings import TLS_CA, TLS_CERT, TLS_KEY, Tls

LOOK_S = 5.0
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # with which every client of gRPC begins (RFC 9113, section 3.4)
_NOT_YET, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64  # of X.509's verification, in OpenSSL
_HAS_EXPIRED = {_EXPIRED: "has expired", _NOT_YET: "is not valid yet, by the clock of this machine"}


def server_credentials(grpc: Any, tls: Tls) -> Any:
    """For a search that shows `tls.cert`, and where `tls.ca` is named lets in only whom that authority has signed.

    InputError names the file that is missing, none of its kind, or expired.
    """
    if not tls.cert or not tls.key:
        raise InputError(f"a search that encrypts shows a certificate; needed {TLS_CERT} FILE and {TLS_KEY} FILE")
    pair = _pair(tls)
    authority = _authority(tls) if tls.ca else None
    return grpc.ssl_server_credentials([pair], authority, require_client_auth=authority is not None)


def channel_credentials(grpc: Any, tls: Tls) -> Any:
    """For a worker that believes searches which `tls.ca` has signed, and shows `tls.cert` if it is asked for one."""
    if not tls.ca:
        raise InputError(
            f"whose certificate is the search's to be? Needed {TLS_CA} FILE: that of the authority which signed it"
        )
    authority = _authority(tls)
    if not tls.cert and not tls.key:
        return grpc.ssl_channel_credentials(authority)
    if not tls.cert or not tls.key:
        raise InputError(f"a certificate is of no use without its key; needed {TLS_CERT} FILE and {TLS_KEY} FILE")
    key, certificate = _pair(tls)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def why_refused(host: str, tls: Tls | None) -> str | None:
    """What is wrong between us and the search at `host` (HOST:PORT), by a handshake; None if it is not encryption."""
    name, _, port = host.rpartition(":")
    name = name.strip("[]")
    try:
        with (
            socket.create_connection((name, int(port)), timeout=LOOK_S) as plain,
            _looking(tls).wrap_socket(plain, server_hostname=name) as encrypted,
        ):
            if tls is None:
                return f"the search at {host} encrypts; needed grpcs://{host} and {TLS_CA} FILE"
            # a server of gRPC closes without a word on whose certificate it does not like
            encrypted.sendall(_PREFACE)
            return None if encrypted.recv(1) else _not_let_in(host, tls)
    except ssl.SSLCertVerificationError as problem:
        return _not_believed(host, name, problem, tls)
    except ssl.SSLError:
        return None if tls is None else f"the search at {host} does not encrypt; start it with {TLS_CERT} and {TLS_KEY}"
    except OSError:
        return None


def _not_let_in(host: str, tls: Tls) -> str:
    if not tls.cert:
        return (
            f"the search at {host} lets in workers with a certificate only; needed {TLS_CERT} FILE and {TLS_KEY} FILE, "
            f"signed by the authority that its {TLS_CA} names"
        )
    return (
        f"the search at {host} does not accept {TLS_CERT} {tls.cert}; needed is one that the authority which "
        f"its {TLS_CA} names has signed, for clients, and that has not expired"
    )


def _not_believed(host: str, name: str, problem: ssl.SSLCertVerificationError, tls: Tls | None) -> str:
    if problem.verify_code in _HAS_EXPIRED:
        return f"the certificate of the search at {host} {_HAS_EXPIRED[problem.verify_code]}; it needs a new one"
    if problem.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return (
            f"the certificate of the search at {host} is not for {name!r}; ask at a name that it has, or make one with "
            f"this name as its subjectAltName"
        )
    authority = "" if tls is None else tls.ca
    return (
        f"the certificate of the search at {host} was not signed by {TLS_CA} {authority} ({problem.verify_message}); "
        "needed is the authority that signed it"
    )


def _looking(tls: Tls | None) -> ssl.SSLContext:
    """What a worker's handshake is made of; without `tls` one that believes everybody."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    if tls is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return context
    context.load_verify_locations(tls.ca)
    if tls.cert:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    return context


def _authority(tls: Tls) -> bytes:
    content = _read(TLS_CA, tls.ca)
    if not _holds_certificates(tls.ca):
        raise InputError(f"{TLS_CA} {tls.ca} holds no certificate; needed is PEM, with -----BEGIN CERTIFICATE-----")
    return content


def _pair(tls: Tls) -> tuple[bytes, bytes]:
    """Key and certificate as gRPC takes them."""
    key, certificate = _read(TLS_KEY, tls.key), _read(TLS_CERT, tls.cert)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(tls.cert, tls.key, password=_no_password)
    except ssl.SSLError as problem:
        raise InputError(_why_no_pair(tls, problem)) from problem
    fault = _HAS_EXPIRED.get(_verify_code(context, tls.cert))
    if fault is not None:
        raise InputError(f"{TLS_CERT} {tls.cert}: this certificate {fault}; needed is a new one")
    return key, certificate


def _why_no_pair(tls: Tls, problem: ssl.SSLError) -> str:
    if problem.reason == "KEY_VALUES_MISMATCH":
        return (
            f"{TLS_KEY} {tls.key} is not the key of {TLS_CERT} {tls.cert}; needed are the two that were made together"
        )
    if not _holds_certificates(tls.cert):
        return f"{TLS_CERT} {tls.cert} holds no certificate; needed is PEM, with -----BEGIN CERTIFICATE-----"
    return f"{TLS_KEY} {tls.key} holds no key that can be read; needed is PEM, with -----BEGIN PRIVATE KEY-----"


def _verify_code(shown: ssl.SSLContext, path: str) -> int:
    """What a verification says of the certificate that `shown` shows, believing itself; 0 if it has no fault."""
    looking = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    looking.check_hostname = False
    looking.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    looking.load_verify_locations(path)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = looking.wrap_bio(back, there), shown.wrap_bio(there, back, server_side=True)
    for side in (*sides, *sides):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as problem:
            return problem.verify_code
    return 0


def _holds_certificates(path: str) -> bool:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(path)
    except ssl.SSLError:
        return False
    return True


def _no_password() -> str:
    """Nobody is asked for one; neither can gRPC."""
    raise InputError("a key that needs a password cannot be used; needed is one without: openssl pkey -in KEY -out NEW")


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as problem:
        raise InputError(f"{option} {path}: cannot be read: {problem.strerror}") from problem
