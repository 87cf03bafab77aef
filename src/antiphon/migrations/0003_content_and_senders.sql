-- What is said (templates) and where it is sent from (provider accounts, senders).

CREATE TABLE templates (
    org_id           uuid NOT NULL REFERENCES organizations (id),
    id               uuid NOT NULL,
    name             text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    name_key         text NOT NULL,
    channel          text NOT NULL,
    description      text,
    status           text NOT NULL DEFAULT 'active' CHECK (status IN ('draft', 'active', 'archived')),
    default_language text NOT NULL DEFAULT 'en',
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    deleted_at       timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX templates_name ON templates (org_id, name_key) WHERE deleted_at IS NULL;
SELECT make_tenant_table('templates', 'SELECT, INSERT, UPDATE, DELETE');

-- An immutable revision in one language. template_id is empty for a campaign's or message's own text.
-- variables: {"firstName": {"sample": "Max", "required": true, "default": null}, …}
-- approved: the provider's approved template, {"name", "language", "header": ["{{x}}"], "body": […], "buttons": […]}
CREATE TABLE template_versions (
    org_id       uuid NOT NULL REFERENCES organizations (id),
    id           uuid NOT NULL,
    template_id  uuid,
    language     text NOT NULL,
    version      int NOT NULL,
    channel      text NOT NULL,
    subject      text,
    text         text,
    html         text,
    approved     jsonb,
    variables    jsonb NOT NULL DEFAULT '{}',
    created_by   text NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, template_id) REFERENCES templates (org_id, id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX template_versions_number ON template_versions (org_id, template_id, language, version)
    WHERE template_id IS NOT NULL;
SELECT make_tenant_table('template_versions', 'SELECT, INSERT');

-- Credentials are sealed (AES-256-GCM bound to organization, table, column and row).
CREATE TABLE provider_accounts (
    org_id        uuid NOT NULL REFERENCES organizations (id),
    id            uuid NOT NULL,
    provider      text NOT NULL,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    credentials   bytea NOT NULL,
    webhook_hash  bytea NOT NULL,
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    PRIMARY KEY (org_id, id)
);
SELECT make_tenant_table('provider_accounts', 'SELECT, INSERT, UPDATE');

-- The number or address we send from, on one channel. Its lane (same id) belongs to the ledger.
CREATE TABLE senders (
    org_id       uuid NOT NULL,
    id           uuid NOT NULL,
    account_id   uuid NOT NULL,
    channel      text NOT NULL,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    name_key     text NOT NULL,
    address      text NOT NULL CHECK (address <> ''),
    rate         double precision NOT NULL CHECK (rate > 0),
    daily_cap    int CHECK (daily_cap > 0),
    in_flight    int NOT NULL CHECK (in_flight BETWEEN 1 AND 1024),
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, account_id) REFERENCES provider_accounts (org_id, id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX senders_name ON senders (org_id, name_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX senders_address ON senders (org_id, account_id, channel, address) WHERE deleted_at IS NULL;
SELECT make_tenant_table('senders', 'SELECT, INSERT, UPDATE');

-- A sender or endpoint that broke: opened once, closed by itself or by a person.
CREATE TABLE incidents (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    id          uuid NOT NULL,
    subject     text NOT NULL CHECK (subject IN ('sender', 'endpoint')),
    subject_id  uuid NOT NULL,
    kind        text NOT NULL,
    reason      text NOT NULL,
    opened_at   timestamptz NOT NULL DEFAULT now(),
    closed_at   timestamptz,
    closed_by   text,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX incidents_open ON incidents (org_id, subject_id, kind) WHERE closed_at IS NULL;
SELECT make_tenant_table('incidents', 'SELECT, INSERT, UPDATE');
