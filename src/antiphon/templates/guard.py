"""What a version must stand before it is saved: the grammar, its variables, its place in HTML, and a trial run in a
process of its own, under a memory and a time limit, with its sample values and with the longest ones allowed.
"""

from __future__ import annotations

import asyncio
import difflib
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from antiphon.core import clock
from antiphon.core.errors import FieldError, Invalid
from antiphon.templates import grammar, markup
from antiphon.templates.child import Trial, Verdict
from antiphon.templates.grammar import MAX_INNER_VALUE, MAX_ITEMS, MAX_VALUE
from antiphon.templates.model import BUILT_IN, TemplateVersion, Variable, check_parts
from antiphon.templates.render import Compiled, PartFault, compile_version

MAX_VARIABLES = 100
_TIMEOUT = 10.0  # seconds for the whole trial, on a machine that has other things to do
_PASSED_ON = ("PATH", "PYTHONPATH", "HOME", "LANG", "SYSTEMROOT", "PYTHONHOME", "VIRTUAL_ENV")


async def check(version: TemplateVersion) -> Compiled:
    """The version, compiled, if it may be saved. Raises Invalid naming every part that is wrong, and the remedy.

    The trial runs in a thread's child process, so neither the event loop nor this process's memory is at stake.
    """
    compiled = check_text(version)
    if any(part.name for part in compiled.parts.values()) or version.approved is not None:
        await asyncio.to_thread(_try, version, compiled)
    return compiled


def check_text(version: TemplateVersion) -> Compiled:
    """All of `check` that needs no trial: what is written, not what it does."""
    wrong = check_parts(version.channel, version.content) + _wrong_declarations(version.variables)
    compiled = None
    try:
        compiled = compile_version(version)
        wrong += _unknown(version, compiled)
    except PartFault as fault:
        wrong += fault.errors
    if version.html and not any(error.field == "html" for error in wrong):
        wrong += [FieldError("html", text) for text in markup.wrong_places(version.html)]
    if compiled is None or wrong:
        raise _invalid(wrong)
    return compiled


def sample_values(version: TemplateVersion) -> dict[str, Any]:
    """What stands for the variables in a preview: the declared samples before the built-in ones."""
    samples = {name: variable.sample for name, variable in BUILT_IN.items()}
    return samples | {
        name: variable.sample for name, variable in version.variables.items() if variable.sample is not None
    }


def longest_values(version: TemplateVersion) -> dict[str, Any]:
    """The sample values, each grown to what may be sent at most."""
    return {name: _grown(value) for name, value in sample_values(version).items()}


def _grown(value: Any, *, is_inner: bool = False) -> Any:
    match value:
        case str():
            longest = MAX_INNER_VALUE if is_inner else MAX_VALUE
            if value.startswith(("https://", "http://")):
                return value.ljust(longest, "x")
            return '"' * longest  # the sign that HTML makes longest
        case Mapping():
            return {k: _grown(v, is_inner=True) for k, v in cast("Mapping[str, Any]", value).items()}
        case [first, *_]:
            return [_grown(first, is_inner=True)] * MAX_ITEMS
        case _:
            return value


def _invalid(wrong: list[FieldError]) -> Invalid:
    named = "; ".join(f"{error.field}: {error.message}" for error in wrong[:3])
    more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return Invalid(f"the template cannot be saved: {named}{more}", wrong, "template_invalid")


def _wrong_declarations(variables: Mapping[str, Variable]) -> list[FieldError]:
    wrong: list[FieldError] = []
    if len(variables) > MAX_VARIABLES:
        wrong.append(FieldError("variables", f"{len(variables)} are too many; at most {MAX_VARIABLES}"))
    for name, variable in variables.items():
        field = f"variables.{name[:64]}"
        if not grammar.is_name(name):
            wrong.append(
                FieldError(field, "is no name; use letters, digits and _, beginning with a letter, and no word of "
                           "the template language")
            )  # fmt: skip
        elif variable.sample is None and name not in BUILT_IN:
            wrong.append(FieldError(field, 'has no sample; give one, as in {"sample": "Berlin"}'))
        elif len(msgspec.json.encode(variable.sample)) > 16_384:
            wrong.append(FieldError(field, "has a sample of more than 16,384 bytes; give a short one"))
    return wrong


def _unknown(version: TemplateVersion, compiled: Compiled) -> list[FieldError]:
    known = list(BUILT_IN) + [name for name in version.variables if name not in BUILT_IN]
    return [
        FieldError(part, _unknown_text(name, line, known))
        for name, (part, line) in compiled.uses.items()
        if name not in known
    ]


def _unknown_text(name: str, line: int, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 1, 0.7)
    meant = f"; did you mean {near[0]}?" if near else ""
    return (
        f"line {line}: {name} is not a known variable{meant} Known are {', '.join(known)}. To use {name}, declare "
        f'it with a sample: "variables": {{"{name}": {{"sample": "…"}}}}'
    )


# ---- the trial ------------------------------------------------------------------------------------


def _try(version: TemplateVersion, compiled: Compiled) -> None:
    samples, longest = sample_values(version), longest_values(version)
    trial = Trial(
        version=version,
        at=clock.now(),
        samples={name: samples.get(name) for name in compiled.names},
        longest={name: longest.get(name) for name in compiled.names},
    )
    try:
        ran = subprocess.run(
            [sys.executable, "-P", "-m", "antiphon.templates.child"],
            input=msgspec.json.encode(trial),
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
            env=child_environment(),
        )
    except subprocess.TimeoutExpired:
        raise _refused("it did not end in time") from None
    verdict = verdict_of(ran)
    if verdict.reason is not None:
        raise _refused(verdict.reason)


def child_environment() -> dict[str, str]:
    """What the trial is told of ours: where Python is, and none of our settings."""
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}


def verdict_of(ran: subprocess.CompletedProcess[bytes]) -> Verdict:
    """What a trial said, or what its end says: a process that was killed or aborted had taken too much."""
    if ran.returncode == 0:
        return msgspec.json.decode(ran.stdout, type=Verdict)
    if ran.returncode < 0 or b"MemoryError" in ran.stderr:
        return Verdict("it needs too much memory or time with the longest values allowed")
    raise RuntimeError(f"the trial of a template ended with {ran.returncode}: {ran.stderr[-2000:].decode()}")


def _refused(reason: str) -> Invalid:
    return _invalid([FieldError("text", f"in a trial run, {reason}")])
