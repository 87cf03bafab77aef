-- The floor under every table: ids, tenant tables, organizations, people who sign in, keys, audit, jobs, events.

-- UUIDv7 (RFC 9562, section 5.7): 48 bits of Unix milliseconds, then random bits. PostgreSQL 18 has one of its own.
DO $make$
BEGIN
    IF current_setting('server_version_num')::int >= 180000 THEN
        CREATE FUNCTION uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS 'SELECT uuidv7()';
    ELSE
        CREATE FUNCTION uuid7() RETURNS uuid LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
            SELECT encode(
                set_bit(set_bit(
                    overlay(uuid_send(gen_random_uuid())
                            PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
                            FROM 1 FOR 6),
                    52, 1), 53, 1),
                'hex')::uuid
        $$;
    END IF;
END
$make$;

-- The least UUIDv7 of an instant (of 1970, before it): the bound of a month's partition.
CREATE FUNCTION uuid7_from(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(greatest(0, extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;

-- Makes a table belong to one organization at a time. The policy has no sub-select, so that it can be distributed.
CREATE FUNCTION make_tenant_table(tenant regclass, rights text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tenant);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tenant);
    EXECUTE format(
        'CREATE POLICY one_organization ON %s TO antiphon_app, antiphon_worker'
        ' USING (org_id = nullif(current_setting(''app.org_id'', true), '''')::uuid)'
        ' WITH CHECK (org_id = nullif(current_setting(''app.org_id'', true), '''')::uuid)', tenant);
    EXECUTE format('GRANT %s ON %s TO antiphon_app, antiphon_worker', rights, tenant);
END
$$;

-- What the worker may read without naming an organization, to find work. It never writes so.
CREATE FUNCTION let_worker_look_across(tenant regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('CREATE POLICY find_work ON %s FOR SELECT TO antiphon_worker USING (true)', tenant);
END
$$;

CREATE TABLE organizations (
    id          uuid PRIMARY KEY,
    name        text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    timezone    text NOT NULL DEFAULT 'UTC',
    country     text CHECK (country ~ '^[A-Z]{2}$'),
    language    text NOT NULL DEFAULT 'en',
    settings    jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY one_organization ON organizations TO antiphon_app, antiphon_worker
    USING (id = nullif(current_setting('app.org_id', true), '')::uuid)
    WITH CHECK (id = nullif(current_setting('app.org_id', true), '')::uuid);
CREATE POLICY find_work ON organizations FOR SELECT TO antiphon_worker USING (true);
GRANT SELECT, INSERT, UPDATE ON organizations TO antiphon_app, antiphon_worker;

CREATE TABLE users (
    id          uuid PRIMARY KEY,
    email       text NOT NULL UNIQUE CHECK (email = lower(email)),
    name        text NOT NULL,
    status      text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'inactive', 'suspended', 'pending')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    deleted_at  timestamptz
);
GRANT SELECT, INSERT, UPDATE ON users TO antiphon_app;

CREATE TABLE memberships (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    user_id     uuid NOT NULL REFERENCES users (id),
    role        text NOT NULL CHECK (role IN ('admin', 'manager', 'user', 'viewer')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, user_id)
);
SELECT make_tenant_table('memberships', 'SELECT, INSERT, UPDATE, DELETE');

CREATE TABLE api_keys (
    org_id        uuid NOT NULL REFERENCES organizations (id),
    id            uuid NOT NULL,
    name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    prefix        text NOT NULL,
    secret_hash   bytea NOT NULL,
    scopes        text[] NOT NULL,
    created_by    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    last_used_at  timestamptz,
    revoked_at    timestamptz,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, secret_hash)
);
SELECT make_tenant_table('api_keys', 'SELECT, INSERT, UPDATE');

CREATE TABLE idempotency_keys (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    key         text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
    route       text NOT NULL,
    body_hash   bytea NOT NULL,
    status      smallint NOT NULL,
    response    bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, key)
);
SELECT make_tenant_table('idempotency_keys', 'SELECT, INSERT, DELETE');

-- Append-only: no role but the owner may change or remove a row.
CREATE TABLE audit_log (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    id          uuid NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    actor_kind  text NOT NULL CHECK (actor_kind IN ('key', 'user', 'operator', 'system', 'contact')),
    actor_id    text NOT NULL,
    action      text NOT NULL,
    subject_id  uuid,
    detail      jsonb NOT NULL DEFAULT '{}',
    PRIMARY KEY (org_id, id)
);
CREATE INDEX audit_log_subject ON audit_log (org_id, subject_id, id) WHERE subject_id IS NOT NULL;
SELECT make_tenant_table('audit_log', 'SELECT, INSERT');

-- Durable background work: a step of a job and the job's own progress commit together.
CREATE TABLE jobs (
    org_id        uuid NOT NULL REFERENCES organizations (id),
    id            uuid NOT NULL,
    kind          text NOT NULL,
    payload       jsonb NOT NULL,
    key           text,
    status        text NOT NULL DEFAULT 'waiting' CHECK (status IN ('waiting', 'running', 'done', 'failed', 'canceled')),
    progress      jsonb NOT NULL DEFAULT '{}',
    run_at        timestamptz NOT NULL DEFAULT now(),
    failures      int NOT NULL DEFAULT 0,
    last_error    text,
    owner         uuid,
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    PRIMARY KEY (org_id, id)
);
CREATE UNIQUE INDEX jobs_key ON jobs (org_id, kind, key) WHERE key IS NOT NULL AND status IN ('waiting', 'running');
CREATE INDEX jobs_due ON jobs (run_at) WHERE status IN ('waiting', 'running');
SELECT make_tenant_table('jobs', 'SELECT, INSERT, UPDATE, DELETE');
SELECT let_worker_look_across('jobs');

-- Writers append to events_new; a pump that holds the organization's head gives dense numbers, so that a reader who
-- has read n has read everything up to n.
CREATE TABLE events_new (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    id          bigint GENERATED ALWAYS AS IDENTITY,
    name        text NOT NULL,
    subject_id  uuid,
    payload     jsonb NOT NULL,
    at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, id)
);
SELECT make_tenant_table('events_new', 'SELECT, INSERT, DELETE');
SELECT let_worker_look_across('events_new');

CREATE TABLE events (
    org_id      uuid NOT NULL,
    seq         bigint NOT NULL,
    name        text NOT NULL,
    subject_id  uuid,
    payload     jsonb NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (org_id, seq)
);
SELECT make_tenant_table('events', 'SELECT, INSERT, DELETE');

CREATE TABLE event_heads (
    org_id       uuid NOT NULL REFERENCES organizations (id),
    seq          bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id)
);
SELECT make_tenant_table('event_heads', 'SELECT, INSERT, UPDATE');

-- Who wants the high-volume names (message_status_changed, …); without a live row they are not written.
CREATE TABLE event_subscriptions (
    org_id      uuid NOT NULL REFERENCES organizations (id),
    consumer    text NOT NULL,
    name        text NOT NULL,
    valid_until timestamptz NOT NULL,
    PRIMARY KEY (org_id, consumer, name)
);
SELECT make_tenant_table('event_subscriptions', 'SELECT, INSERT, UPDATE, DELETE');

-- Server and worker ask whether the schema is this program's; the runner made the table.
GRANT SELECT ON schema_versions TO antiphon_app, antiphon_worker;
