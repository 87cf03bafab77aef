-- One message to an audience. A blast is the kind with a tag and a follow-up stage.

CREATE TABLE campaigns (
    org_id              uuid NOT NULL REFERENCES organizations (id),
    id                  uuid NOT NULL,
    kind                text NOT NULL CHECK (kind IN ('campaign', 'blast')),
    name                text NOT NULL CHECK (length(name) BETWEEN 1 AND 200),
    tag                 text,
    follow_up_stage     text,
    category            text,
    priority            text NOT NULL DEFAULT 'normal' CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
    purpose             text NOT NULL DEFAULT 'marketing',
    status              text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'scheduled', 'active', 'paused',
                                                                        'completed', 'canceled', 'archived')),
    status_reason       text NOT NULL DEFAULT '',
    channel             text NOT NULL,
    sender_id           uuid NOT NULL,
    template_id         uuid,
    template_version_id uuid,
    audience            jsonb NOT NULL,
    variables           jsonb NOT NULL DEFAULT '{}',
    rate                double precision CHECK (rate > 0),
    scheduled_for       timestamptz,
    latest_start        timestamptz,
    launched_at         timestamptz,
    completed_at        timestamptz,
    canceled_at         timestamptz,
    planned             bigint NOT NULL DEFAULT 0,
    is_expanded         boolean NOT NULL DEFAULT false,
    parts_left          smallint NOT NULL DEFAULT 0,
    source_campaign_id  uuid,
    source_stage        text,
    tags                text[] NOT NULL DEFAULT '{}',
    expected_revenue    numeric(14, 2),
    conversion_goal     text,
    created_by          text NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, sender_id) REFERENCES senders (org_id, id) ON DELETE RESTRICT,
    FOREIGN KEY (org_id, template_id) REFERENCES templates (org_id, id) ON DELETE RESTRICT,
    FOREIGN KEY (org_id, template_version_id) REFERENCES template_versions (org_id, id) ON DELETE RESTRICT
);
CREATE INDEX campaigns_list ON campaigns (org_id, kind, id) WHERE deleted_at IS NULL;
SELECT make_tenant_table('campaigns', 'SELECT, INSERT, UPDATE');

-- The people a file or a call named for one campaign, with what the file said of each: frozen before launch.
CREATE TABLE campaign_recipients (
    org_id       uuid NOT NULL,
    campaign_id  uuid NOT NULL,
    contact_id   uuid NOT NULL,
    variables    jsonb NOT NULL DEFAULT '{}',
    text         text,
    PRIMARY KEY (org_id, campaign_id, contact_id),
    FOREIGN KEY (org_id, campaign_id) REFERENCES campaigns (org_id, id) ON DELETE RESTRICT,
    FOREIGN KEY (org_id, contact_id) REFERENCES contacts (org_id, id) ON DELETE RESTRICT
);
SELECT make_tenant_table('campaign_recipients', 'SELECT, INSERT, UPDATE, DELETE');
