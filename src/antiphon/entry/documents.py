"""The generated pages: docs/settings.md from the table of settings, docs/providers.md from the providers' records.

python -m antiphon.entry.documents           writes them
python -m antiphon.entry.documents --check   fails when one is stale
"""

from __future__ import annotations

import sys
from pathlib import Path

from antiphon.core.settings import SETTINGS
from antiphon.providers import registry
from antiphon.senders.model import ProviderInfo, describe

MADE = "<!-- made by `make openapi`; change the source, not this page -->"


def settings_page() -> str:
    """Every setting: variable, default, meaning."""
    lines = [
        "# Settings", "", MADE, "",
        "Environment variables, read once, checked before anything starts. Any other ANTIPHON_ name is an error.",
        "", "| variable | default | meaning |", "|---|---|---|",
    ]  # fmt: skip
    lines += [f"| `{s.variable}` | {_code(s.default)} | {_cell(s.meaning)} |" for s in SETTINGS]
    return "\n".join(lines) + "\n"


def providers_page() -> str:
    """Every public provider: what it can, and what its account asks for."""
    found = [describe(provider) for provider in registry.public()]
    names = " | ".join(p.title for p in found)
    features = [_features(provider) for provider in found]
    rows = [f"| {label} | " + " | ".join(f[label] for f in features) + " |" for label in features[0]]
    table = [f"| | {names} |", "|---" * (len(found) + 1) + "|", *rows]
    parts = ["# Providers", "", MADE, "", *table, ""]
    for provider in found:
        parts += [f"## {provider.title}", "", provider.setup_help, ""]
        parts += ["| credential | what | secret |", "|---|---|---|"]
        parts += [
            f"| `{f.name}`{'' if f.required else ' (optional)'} | {_cell(f'{f.label}. {f.help}'.strip())} |"
            f" {'yes' if f.secret else ''} |"
            for f in provider.credentials
        ]
        parts += [""]
    return "\n".join(parts).rstrip() + "\n"


def _features(p: ProviderInfo) -> dict[str, str]:
    window = "always" if p.reply_window_hours is None else f"for {p.reply_window_hours:g} hours"
    return {
        "channels": ", ".join(p.channels),
        "a sender's address": p.sender_label,
        "messages a second, unless changed": f"{p.rate_per_second:g}",
        "calls at once, unless changed": str(p.in_flight),
        "takes an idempotency key": _yes(p.takes_idempotency_key),
        "brings our id back": _yes(p.echoes_reference),
        "status webhooks": _yes(p.has_webhooks),
        "webhooks are believed by": p.webhook_signature.replace("_", " "),
        "status polling": _yes(p.has_status_polling),
        "free text after a contact's message": window,
    }


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


PAGES = {"docs/settings.md": settings_page, "docs/providers.md": providers_page}


def main() -> None:
    """Write the pages, or with --check fail when one is stale."""
    stale = [name for name, page in PAGES.items() if not _is_fresh(Path(name), page())]
    if "--check" in sys.argv[1:]:
        if stale:
            sys.exit(f"stale: {', '.join(stale)}. Run make openapi.")
        return
    for name, page in PAGES.items():
        Path(name).write_text(page())


def _is_fresh(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


if __name__ == "__main__":
    main()
