-- Provider webhooks as they came, kept 30 days: what was said, and what became of it. unreadable: entries that nobody
-- acts on; unmatched: about a sender that is not the account's; parked: about a message that is not known (yet). Like the
-- ledger's history it has no foreign key: one would cost more than the row.

CREATE TABLE provider_events (
    org_id      uuid NOT NULL,
    id          uuid NOT NULL,
    account_id  uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    headers     jsonb NOT NULL,
    body        bytea NOT NULL,
    receipts    int NOT NULL DEFAULT 0,
    inbound     int NOT NULL DEFAULT 0,
    unreadable  int NOT NULL DEFAULT 0,
    unmatched   int NOT NULL DEFAULT 0,
    parked      int NOT NULL DEFAULT 0,
    note        text,
    PRIMARY KEY (org_id, id)
);
SELECT make_tenant_table('provider_events', 'SELECT, INSERT, DELETE');
