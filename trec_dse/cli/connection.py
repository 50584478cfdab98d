"""Options of encrypted connections, the same words for a search and for its workers."""

import argparse

from trec_dse.settings import TLS_CA, TLS_CERT, TLS_KEY, Tls


def add_tls(parser: argparse.ArgumentParser, *, when: str, ca: str) -> None:
    """The three options; `when` says what they go with, `ca` what the authority is for."""
    group = parser.add_argument_group("encryption", f"With {when}; all files are PEM.")
    group.add_argument(TLS_CERT, metavar="FILE", help="our certificate, and those between it and its authority")
    group.add_argument(TLS_KEY, metavar="FILE", help="its key, without a password")
    group.add_argument(TLS_CA, metavar="FILE", help=ca)


def tls_of(args: argparse.Namespace) -> Tls | None:
    """What was typed; None if nothing was."""
    tls = Tls(args.tls_cert or "", args.tls_key or "", args.tls_ca or "")
    return None if tls == Tls() else tls
