"""Asking a person before what cannot be taken back."""

import sys

import click


def agreed(question: str, yes: bool) -> bool:
    """Ask, unless that was answered before; UsageError when nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError("Nobody can be asked: standard input is no terminal. With --yes all of the above goes.")
    return click.confirm(question, err=True)
