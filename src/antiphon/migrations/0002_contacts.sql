-- People, how to reach them, what they agreed to, and what we must not use.

CREATE TABLE contacts (
    org_id            uuid NOT NULL REFERENCES organizations (id),
    id                uuid NOT NULL,
    first_name        text,
    last_name         text,
    company           text,
    language          text,
    timezone          text,
    country           text CHECK (country ~ '^[A-Z]{2}$'),
    preferred_channel text,
    attributes        jsonb NOT NULL DEFAULT '{}',
    is_active         boolean NOT NULL DEFAULT true,
    source            text NOT NULL DEFAULT 'api',
    search_text       text NOT NULL DEFAULT '',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    deleted_at        timestamptz,
    PRIMARY KEY (org_id, id)
);
SELECT make_tenant_table('contacts', 'SELECT, INSERT, UPDATE, DELETE');

-- One way to reach a contact: kind and normalized value (E.164 for phones, lower case for email).
CREATE TABLE addresses (
    org_id      uuid NOT NULL,
    id          uuid NOT NULL,
    contact_id  uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('phone', 'email', 'whatsapp_id', 'messenger_id', 'instagram_id',
                                              'push_token', 'visitor')),
    value       text NOT NULL CHECK (value <> ''),
    is_primary  boolean NOT NULL DEFAULT true,
    label       text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id) ON DELETE RESTRICT
);
CREATE UNIQUE INDEX addresses_value ON addresses (org_id, kind, value) WHERE deleted_at IS NULL;
CREATE INDEX addresses_contact ON addresses (org_id, contact_id);
SELECT make_tenant_table('addresses', 'SELECT, INSERT, UPDATE, DELETE');

CREATE TABLE groups (
    org_id       uuid NOT NULL REFERENCES organizations (id),
    id           uuid NOT NULL,
    name         text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    name_key     text NOT NULL,
    description  text,
    is_active    boolean NOT NULL DEFAULT true,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    deleted_at   timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX groups_name ON groups (org_id, name_key) WHERE deleted_at IS NULL;
SELECT make_tenant_table('groups', 'SELECT, INSERT, UPDATE, DELETE');

CREATE TABLE group_members (
    org_id      uuid NOT NULL,
    group_id    uuid NOT NULL,
    contact_id  uuid NOT NULL,
    added_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, group_id, contact_id),
    FOREIGN KEY (org_id, group_id) REFERENCES groups (org_id, id) ON DELETE RESTRICT,
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id) ON DELETE RESTRICT
);
CREATE INDEX group_members_contact ON group_members (org_id, contact_id);
SELECT make_tenant_table('group_members', 'SELECT, INSERT, DELETE');

-- Facts, append-only: who agreed or withdrew, when, to what, said where.
CREATE TABLE consents (
    org_id      uuid NOT NULL,
    id          uuid NOT NULL,
    contact_id  uuid NOT NULL,
    channel     text NOT NULL,
    address     text NOT NULL,
    is_given    boolean NOT NULL,
    source      text NOT NULL,
    wording     text,
    at          timestamptz NOT NULL DEFAULT now(),
    recorded_by text NOT NULL,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id) ON DELETE RESTRICT
);
CREATE INDEX consents_contact ON consents (org_id, contact_id, at);
SELECT make_tenant_table('consents', 'SELECT, INSERT');

-- The newest fact for each channel and address: what the claim reads.
CREATE TABLE consent_states (
    org_id      uuid NOT NULL,
    channel     text NOT NULL,
    address     text NOT NULL,
    is_given    boolean NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (org_id, channel, address)
);
SELECT make_tenant_table('consent_states', 'SELECT, INSERT, UPDATE, DELETE');

-- An address that must not be used on a channel, and why. until ends it by itself, lifted_at by a decision; the row
-- stays as the evidence.
CREATE TABLE suppressions (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    channel     text NOT NULL,
    address     text NOT NULL,
    reason      text NOT NULL CHECK (reason IN ('opt_out', 'hard_bounce', 'complaint', 'carrier', 'not_reachable',
                                                'manual', 'erased')),
    source      text NOT NULL,
    detail      text,
    message_id  uuid,
    at          timestamptz NOT NULL DEFAULT now(),
    until       timestamptz,
    lifted_at   timestamptz,
    lifted_by   text,
    PRIMARY KEY (org_id, channel, address)
);
SELECT make_tenant_table('suppressions', 'SELECT, INSERT, UPDATE');

-- A file on its way in. position is the last line whose effect is committed, so that an import goes on where it stopped.
CREATE TABLE imports (
    org_id        uuid NOT NULL REFERENCES organizations (id),
    id            uuid NOT NULL,
    file_name     text NOT NULL,
    file_digest   bytea NOT NULL,
    file_path     text,
    options       jsonb NOT NULL,
    status        text NOT NULL CHECK (status IN ('running', 'done', 'failed', 'canceled')),
    position      bigint NOT NULL DEFAULT 0,
    total_bytes   bigint,
    done_bytes    bigint NOT NULL DEFAULT 0,
    rows_read     bigint NOT NULL DEFAULT 0,
    created       bigint NOT NULL DEFAULT 0,
    updated       bigint NOT NULL DEFAULT 0,
    unchanged     bigint NOT NULL DEFAULT 0,
    rejected      bigint NOT NULL DEFAULT 0,
    failure       text,
    started_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    PRIMARY KEY (org_id, id)
);
SELECT make_tenant_table('imports', 'SELECT, INSERT, UPDATE, DELETE');

CREATE TABLE import_errors (
    org_id      uuid NOT NULL,
    import_id   uuid NOT NULL,
    line        bigint NOT NULL,
    field       text NOT NULL DEFAULT '',
    code        text NOT NULL,
    reason      text NOT NULL,
    content     text NOT NULL,
    PRIMARY KEY (org_id, import_id, line, field),
    FOREIGN KEY (org_id, import_id) REFERENCES imports (org_id, id) ON DELETE RESTRICT
);
SELECT make_tenant_table('import_errors', 'SELECT, INSERT, DELETE');
