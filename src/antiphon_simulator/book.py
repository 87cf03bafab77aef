"""What is set now: the scenario, accounts, templates, and the faults in wait."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from antiphon_simulator.settings import (
    Account,
    Behavior,
    Fault,
    ProviderName,
    Scenario,
    Settings,
    Template,
    behavior_of,
    checked,
)


@dataclass
class Trap:
    """A fault in wait, and how often it was met."""

    id: int
    fault: Fault
    matched: int = 0
    hits: int = 0

    def springs(self, random: Random) -> bool:
        """Count one matching request; whether the fault strikes it."""
        self.matched += 1
        if self.matched <= self.fault.skip or (self.fault.count and self.hits >= self.fault.count):
            return False
        if self.fault.share < 1 and random.random() >= self.fault.share:
            return False
        self.hits += 1
        return True


@dataclass
class Book:
    """The settings of a running simulator. Change them through its methods only: behaviors are kept computed."""

    scenario: Scenario = field(default_factory=Scenario)
    accounts: dict[tuple[ProviderName, str], Account] = field(
        default_factory=dict[tuple[ProviderName, str], Account]
    )
    templates: dict[tuple[str, str], Template] = field(default_factory=dict[tuple[str, str], Template])
    traps: list[Trap] = field(default_factory=list[Trap])
    _behaviors: dict[tuple[ProviderName, str], Behavior] = field(
        default_factory=dict[tuple[ProviderName, str], Behavior]
    )
    _random: Random = field(default_factory=lambda: Random(1))
    _next_trap: int = 1

    def load(self, settings: Settings) -> None:
        """Forget everything and take these settings."""
        self.accounts = {(account.provider, account.name): account for account in settings.accounts}
        self.templates = {(template.name, template.language): template for template in settings.templates}
        self.traps = []
        self.set_scenario(settings.scenario)
        for fault in settings.faults:
            self.add_fault(fault)

    def settings(self) -> Settings:
        """All that is set, as it could be loaded again (faults begin to count anew)."""
        return Settings(
            scenario=self.scenario,
            accounts=tuple(self.accounts.values()),
            templates=tuple(self.templates.values()),
            faults=tuple(trap.fault for trap in self.traps),
        )

    def set_scenario(self, scenario: Scenario) -> None:
        """Behave like this from now on; messages already accepted keep their fate."""
        self.scenario = checked(scenario)
        self._behaviors.clear()
        self._random = Random(f"{scenario.seed}|faults")

    def behavior(self, provider: ProviderName, account: str) -> Behavior:
        """How this account is treated."""
        known = self._behaviors.get((provider, account))
        if known is None:
            known = self._behaviors[provider, account] = behavior_of(self.scenario, provider, account)
        return known

    def find_account(self, provider: ProviderName, name: str) -> Account | None:
        """The account of this name, else the one that stands for every name. None: only others are known."""
        found = self.accounts.get((provider, name)) or self.accounts.get((provider, "*"))
        if found:
            return found
        others = any(other == provider for other, _ in self.accounts)
        return None if others else Account(provider=provider, name=name)

    def account(self, provider: ProviderName, name: str) -> Account:
        """The account of this name or one without any settings."""
        return self.find_account(provider, name) or Account(provider=provider, name=name)

    def with_token(self, provider: ProviderName, token: str) -> Account | None:
        """The account whose token this is; any token opens an account that asks for none."""
        if not token:
            return None
        mine = [account for account in self.accounts.values() if account.provider == provider]
        if not mine:
            return Account(provider=provider)
        return next((account for account in mine if account.token in ("", token)), None)

    def add_fault(self, fault: Fault) -> Trap:
        """Let the matching requests from now on run into this."""
        trap = Trap(id=self._next_trap, fault=fault)
        self._next_trap += 1
        self.traps.append(trap)
        return trap

    def fault_for(
        self, provider: ProviderName, operation: str, account: str = "", recipient: str = "", text: str = ""
    ) -> Fault | None:
        """The first fault that strikes this request."""
        for trap in self.traps:
            if _matches(trap.fault, provider, operation, account, recipient, text) and trap.springs(
                self._random
            ):
                return trap.fault
        return None

    def smtp_fault(self, at: str, recipient: str = "", text: str = "") -> Fault | None:
        """The first fault that strikes the mail server at this step."""
        for trap in self.traps:
            fault = trap.fault
            if fault.at != at or not _matches(fault, "smtp", "send", "", recipient, text):
                continue
            if trap.springs(self._random):
                return fault
        return None


def _matches(fault: Fault, provider: str, operation: str, account: str, recipient: str, text: str) -> bool:
    return (
        fault.provider == provider
        and fault.operation in (operation, "any")
        and fault.account in ("", account)
        and recipient.endswith(fault.suffix)
        and fault.text in text
    )
