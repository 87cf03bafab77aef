-- THE LEDGER. messages, message_contents, attempts and message_events are partitioned by month of the message's id
-- (UUIDv7 carries the month), so that new rows never fill the gaps of old pages and a month can be dropped whole.
-- They have no foreign keys: their rows are written from joins, and doctor checks the links.

CREATE TABLE messages (
    org_id               uuid NOT NULL,
    id                   uuid NOT NULL,
    direction            text NOT NULL CHECK (direction IN ('out', 'in')),
    channel              text NOT NULL,
    purpose              text NOT NULL CHECK (purpose IN ('marketing', 'transactional', 'notification', 'support')),
    origin               text NOT NULL CHECK (origin IN ('campaign', 'sequence', 'reply', 'api', 'test', 'inbound', 'logged')),
    caused_by            text NOT NULL,
    status               text NOT NULL CHECK (status IN ('scheduled', 'sent', 'delivered', 'read', 'failed', 'bounced',
                                                         'unknown', 'canceled', 'skipped', 'received')),
    -- the furthest of sent, delivered, read, clicked, replied, closed; else the status
    stage                text NOT NULL,
    reason               text NOT NULL DEFAULT '',
    code                 text,
    detail               text,
    sender_id            uuid,
    contact_id           uuid,
    address              text NOT NULL,
    template_version_id  uuid,
    language             text,
    variables            jsonb,
    campaign_id          uuid,
    variant              text,
    sequence_id          uuid,
    step_id              uuid,
    enrollment_id        uuid,
    booking_id           uuid,
    conversation_id      uuid,
    lead_id              uuid,
    reply_to_id          uuid,
    is_once              boolean NOT NULL DEFAULT false,
    is_automatic         boolean NOT NULL DEFAULT false,
    provider_message_id  text,
    attempt_no           int NOT NULL DEFAULT 0,
    segments             smallint,
    cost                 numeric(12, 6),
    currency             text,
    day                  date NOT NULL,
    scheduled_for        timestamptz,
    expires_at           timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    sent_at              timestamptz,
    delivered_at         timestamptz,
    read_at              timestamptz,
    clicked_at           timestamptz,
    replied_at           timestamptz,
    closed_at            timestamptz,
    failed_at            timestamptz,
    bounced_at           timestamptz,
    skipped_at           timestamptz,
    canceled_at          timestamptz,
    received_at          timestamptz,
    provider_at          timestamptz,
    PRIMARY KEY (org_id, id)
) PARTITION BY RANGE (id);
CREATE INDEX messages_campaign ON messages (org_id, campaign_id, id) WHERE campaign_id IS NOT NULL;
CREATE INDEX messages_contact ON messages (org_id, contact_id, id);

-- Words that no template holds (an inbound text, a message's own text), written once beside the ledger, so that a
-- status change rewrites a narrow row. What a template says is rendered again from the version and the message's
-- variables, which were fixed when the message was made: the same input, the same text.
CREATE TABLE message_contents (
    org_id      uuid NOT NULL,
    message_id  uuid NOT NULL,
    subject     text,
    text        text,
    html        text,
    media       jsonb,
    payload     jsonb,
    metadata    jsonb,
    PRIMARY KEY (org_id, message_id)
) PARTITION BY RANGE (message_id);

-- The intent log: committed before the provider is called, closed with the outcome after.
-- A replay renders the same bytes from the message's version and variables at the same instant: the claimed_at of the
-- first attempt under its key.
CREATE TABLE attempts (
    org_id               uuid NOT NULL,
    message_id           uuid NOT NULL,
    attempt_no           int NOT NULL,
    lane_id              uuid NOT NULL,
    epoch                bigint NOT NULL,
    key                  text NOT NULL,
    claimed_at           timestamptz NOT NULL,
    give_up_at           timestamptz NOT NULL,
    replay_until         timestamptz,
    outcome              text CHECK (outcome IN ('accepted', 'rejected', 'throttled', 'not_sent', 'unknown',
                                                 'account_fault', 'template')),
    code                 text,
    reason               text,
    provider_message_id  text,
    finished_at          timestamptz,
    PRIMARY KEY (org_id, message_id, attempt_no)
) PARTITION BY RANGE (message_id);

-- Facts about a message, append-only. key makes a provider's repetition one fact.
CREATE TABLE message_events (
    org_id       uuid NOT NULL,
    message_id   uuid NOT NULL,
    key          text NOT NULL,
    kind         text NOT NULL,
    source       text NOT NULL CHECK (source IN ('dispatch', 'webhook', 'polling', 'manual')),
    old_status   text,
    new_status   text,
    reason       text,
    code         text,
    attempt_no   int,
    provider_at  timestamptz,
    at           timestamptz NOT NULL DEFAULT now(),
    detail       jsonb,
    PRIMARY KEY (org_id, message_id, key)
) PARTITION BY RANGE (message_id);

-- Makes the months from last month to the given number ahead, and the partition that catches what has none; rows that it
-- has caught move into their month. The worker calls it daily; only the owner could otherwise. A month that cannot be
-- made stops no other.
CREATE FUNCTION ensure_partitions(months_ahead int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, public AS $$
DECLARE
    parent text;
    month date;
    made int := 0;
BEGIN
    FOREACH parent IN ARRAY ARRAY['messages', 'message_contents', 'attempts', 'message_events'] LOOP
        IF to_regclass('public.' || parent || '_other') IS NULL THEN
            EXECUTE format('CREATE TABLE public.%I PARTITION OF public.%I DEFAULT', parent || '_other', parent);
            EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', parent || '_other');
            EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', parent || '_other');
        END IF;
        FOR month IN SELECT m::date FROM generate_series(
            date_trunc('month', now() AT TIME ZONE 'UTC') - interval '1 month',
            date_trunc('month', now() AT TIME ZONE 'UTC') + months_ahead * interval '1 month', interval '1 month') m
        LOOP
            CONTINUE WHEN to_regclass('public.' || parent || '_' || to_char(month, 'YYYYMM')) IS NOT NULL;
            BEGIN
                PERFORM public.make_partition(parent, month);
                made := made + 1;
            EXCEPTION WHEN OTHERS THEN
                RAISE WARNING 'no partition of % for %: %', parent, month, SQLERRM;
            END;
        END LOOP;
    END LOOP;
    RETURN made;
END
$$;

CREATE FUNCTION make_partition(parent text, month date) RETURNS void LANGUAGE plpgsql
    SET search_path = pg_catalog, public AS $$
DECLARE
    child text := parent || '_' || to_char(month, 'YYYYMM');
    other text := parent || '_other';
    key text := CASE parent WHEN 'messages' THEN 'id' ELSE 'message_id' END;
    low uuid := public.uuid7_from(month::timestamp AT TIME ZONE 'UTC');
    high uuid := public.uuid7_from((month + interval '1 month') AT TIME ZONE 'UTC');
BEGIN
    EXECUTE format('CREATE TABLE public.%I (LIKE public.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', child, parent);
    IF parent IN ('messages', 'attempts') THEN  -- room for the next version of a row beside it
        EXECUTE format('ALTER TABLE public.%I SET (fillfactor = 60, autovacuum_vacuum_scale_factor = 0.05)', child);
    END IF;
    EXECUTE format('ALTER TABLE public.%I NO FORCE ROW LEVEL SECURITY', other);
    EXECUTE format('WITH caught AS (DELETE FROM public.%I WHERE %I >= %L AND %I < %L RETURNING *)'
                   ' INSERT INTO public.%I SELECT * FROM caught', other, key, low, key, high, child);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', other);
    EXECUTE format('ALTER TABLE public.%I ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                   parent, child, low, high);
    EXECUTE format('ALTER TABLE public.%I ENABLE ROW LEVEL SECURITY', child);
    EXECUTE format('ALTER TABLE public.%I FORCE ROW LEVEL SECURITY', child);
END
$$;
REVOKE ALL ON FUNCTION make_partition(text, date) FROM PUBLIC;
REVOKE ALL ON FUNCTION ensure_partitions(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ensure_partitions(int) TO antiphon_worker;
SELECT ensure_partitions(3);

SELECT make_tenant_table('messages', 'SELECT, INSERT, UPDATE');
SELECT make_tenant_table('message_contents', 'SELECT, INSERT, UPDATE');
SELECT make_tenant_table('attempts', 'SELECT, INSERT, UPDATE');
SELECT make_tenant_table('message_events', 'SELECT, INSERT');

-- Once-only facts about messages: campaign × contact, enrollment × step, …
CREATE TABLE message_keys (
    org_id      uuid NOT NULL,
    cause_id    uuid NOT NULL,
    subject_id  uuid NOT NULL,
    message_id  uuid NOT NULL,
    PRIMARY KEY (org_id, cause_id, subject_id)
);
SELECT make_tenant_table('message_keys', 'SELECT, INSERT, DELETE');

-- The provider's names of messages, in both directions. part counts the pieces of one message.
CREATE TABLE provider_ids (
    org_id               uuid NOT NULL,
    account_id           uuid NOT NULL,
    provider_message_id  text NOT NULL,
    part                 smallint NOT NULL DEFAULT 0,
    message_id           uuid NOT NULL,
    attempt_no           int NOT NULL DEFAULT 0,
    at                   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (org_id, account_id, provider_message_id, part)
);
SELECT make_tenant_table('provider_ids', 'SELECT, INSERT, DELETE');

-- A lane is one sender's queue: the unit of rate, lease, throttling and order. Its row is the lock.
CREATE TABLE lanes (
    org_id         uuid NOT NULL REFERENCES organizations (id),
    id             uuid NOT NULL,
    account_id     uuid NOT NULL,
    provider       text NOT NULL,
    channel        text NOT NULL,
    owner          uuid,
    epoch          bigint NOT NULL DEFAULT 0,
    lease_until    timestamptz NOT NULL DEFAULT '-infinity',
    next_due_at    timestamptz NOT NULL DEFAULT 'infinity',
    rate           double precision NOT NULL,
    burst          double precision NOT NULL,
    tokens         double precision NOT NULL,
    tokens_at      timestamptz NOT NULL DEFAULT now(),
    in_flight      int NOT NULL,
    daily_cap      int,
    day            date,
    day_count      int NOT NULL DEFAULT 0,
    blocked_until  timestamptz,
    block_reason   text,
    paused_reason  text,
    doubt_after    interval NOT NULL DEFAULT '15 minutes',
    PRIMARY KEY (org_id, id)
) WITH (fillfactor = 50);
SELECT make_tenant_table('lanes', 'SELECT, INSERT, UPDATE');
SELECT let_worker_look_across('lanes');

-- What a group of messages waits behind: closing one row stops a million.
CREATE TABLE gates (
    org_id         uuid NOT NULL,
    id             uuid NOT NULL,
    lane_id        uuid NOT NULL,
    cause          text NOT NULL CHECK (cause IN ('default', 'campaign', 'sequence')),
    cause_id       uuid NOT NULL,
    class          text NOT NULL CHECK (class IN ('transactional', 'bulk')),
    priority       smallint NOT NULL DEFAULT 2,
    is_open        boolean NOT NULL DEFAULT true,
    reason         text,
    rate           double precision,
    tokens         double precision NOT NULL DEFAULT 1,
    tokens_at      timestamptz NOT NULL DEFAULT now(),
    left_to_spend  numeric(14, 6),
    valid_until    timestamptz,
    PRIMARY KEY (org_id, id),
    UNIQUE (org_id, lane_id, cause, cause_id, class),
    FOREIGN KEY (org_id, lane_id) REFERENCES lanes (org_id, id) ON DELETE RESTRICT
) WITH (fillfactor = 70);
CREATE INDEX gates_cause ON gates (org_id, cause, cause_id);
SELECT make_tenant_table('gates', 'SELECT, INSERT, UPDATE, DELETE');

-- The queue: one row per unfinished outbound message. state 0 waiting, 1 open (an attempt may be on the wire),
-- 2 doubtful (being resolved), 3 held (settled in doubt, waits for a late fact or a person).
CREATE TABLE outbox (
    org_id         uuid NOT NULL,
    message_id     uuid NOT NULL,
    lane_id        uuid NOT NULL,
    gate_id        uuid NOT NULL,
    state          smallint NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    due_at         timestamptz NOT NULL,
    order_at       timestamptz NOT NULL,
    contact_id     uuid NOT NULL,
    channel        text NOT NULL,
    address        text NOT NULL,
    purpose        text NOT NULL,
    needs_consent  boolean NOT NULL,
    is_once        boolean NOT NULL DEFAULT false,
    expires_at     timestamptz,
    wait_reason    text,
    attempt_no     int NOT NULL DEFAULT 0,
    first_try      int NOT NULL DEFAULT 1,
    retries        smallint NOT NULL DEFAULT 0,
    crashes        smallint NOT NULL DEFAULT 0,
    resends        smallint NOT NULL DEFAULT 0,
    PRIMARY KEY (org_id, message_id)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_cost_delay = 0);
CREATE INDEX outbox_due ON outbox (org_id, lane_id, gate_id, due_at) WHERE state = 0;
-- What holds later messages to the same contact back, and what recovery looks at.
CREATE INDEX outbox_busy ON outbox (org_id, lane_id, contact_id)
    WHERE state IN (1, 2) OR attempt_no > 0 OR wait_reason = 'order';
SELECT make_tenant_table('outbox', 'SELECT, INSERT, UPDATE, DELETE');

-- What status polling must still ask about.
CREATE TABLE polls (
    org_id               uuid NOT NULL,
    message_id           uuid NOT NULL,
    lane_id              uuid NOT NULL,
    provider_message_id  text NOT NULL,
    due_at               timestamptz NOT NULL,
    tries                smallint NOT NULL DEFAULT 0,
    stop_at              timestamptz NOT NULL,
    PRIMARY KEY (org_id, message_id)
);
CREATE INDEX polls_due ON polls (org_id, lane_id, due_at);
SELECT make_tenant_table('polls', 'SELECT, INSERT, UPDATE, DELETE');

-- Receipts for a message whose hand-over is not stored yet, or that is not ours.
CREATE TABLE parked_receipts (
    org_id               uuid NOT NULL,
    id                   uuid NOT NULL,
    account_id           uuid NOT NULL,
    provider_message_id  text NOT NULL,
    receipt              jsonb NOT NULL,
    source               text NOT NULL,
    parked_at            timestamptz NOT NULL DEFAULT now(),
    expires_at           timestamptz NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX parked_receipts_id ON parked_receipts (org_id, account_id, provider_message_id);
SELECT make_tenant_table('parked_receipts', 'SELECT, INSERT, UPDATE, DELETE');
SELECT let_worker_look_across('parked_receipts');

-- Funnel: each statement that makes or moves messages appends its differences; a fold adds them up. A reading is
-- counts + deltas. No campaign is the nil id, so that a row has one identity.
CREATE TABLE funnel_deltas (
    org_id       uuid NOT NULL,
    id           bigint GENERATED ALWAYS AS IDENTITY,
    campaign_id  uuid NOT NULL,
    sender_id    uuid NOT NULL,
    channel      text NOT NULL,
    day          date NOT NULL,
    stage        text NOT NULL,
    reason       text NOT NULL,
    n            int NOT NULL,
    PRIMARY KEY (org_id, id)
);
CREATE INDEX funnel_deltas_campaign ON funnel_deltas (org_id, campaign_id);
SELECT make_tenant_table('funnel_deltas', 'SELECT, INSERT, UPDATE, DELETE');
SELECT let_worker_look_across('funnel_deltas');

CREATE TABLE funnel_counts (
    org_id       uuid NOT NULL,
    campaign_id  uuid NOT NULL,
    sender_id    uuid NOT NULL,
    channel      text NOT NULL,
    day          date NOT NULL,
    stage        text NOT NULL,
    reason       text NOT NULL,
    n            bigint NOT NULL,
    PRIMARY KEY (org_id, campaign_id, sender_id, channel, day, stage, reason)
);
SELECT make_tenant_table('funnel_counts', 'SELECT, INSERT, UPDATE, DELETE');
