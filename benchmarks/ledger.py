"""A ledger that has been used for a month: messages that were sent, with attempts, events and the providers' names."""

from __future__ import annotations

from uuid import UUID

from benchmarks.stage import Stage

AT_ONCE = 500_000


def grow(stage: Stage, org_id: UUID, sender_id: UUID, count: int) -> None:
    """So many sent messages of the last 30 days more, loaded past the application; then vacuumed and checkpointed."""
    while count > 0:
        stage.sql(SENT.format(org_id=org_id, sender_id=sender_id, count=min(AT_ONCE, count)))
        count -= AT_ONCE
    stage.sql("VACUUM ANALYZE")
    stage.sql("CHECKPOINT")


SENT = """
    CREATE TEMP TABLE loading AS
    SELECT encode(overlay(uuid_send(gen_random_uuid()) PLACING substring(uuid_send(uuid7_from(at)) FOR 6) FROM 1 FOR 6),
                  'hex')::uuid AS id, at, gen_random_uuid() AS contact_id, 'f' || gen_random_uuid() AS name, n
      FROM (SELECT n, now() - n * (interval '30 days' / {count}) AS at FROM generate_series(1, {count}) n) made
     ORDER BY id;
    INSERT INTO messages (org_id, id, direction, channel, purpose, origin, caused_by, status, stage, sender_id,
                          contact_id, address, language, variables, campaign_id, attempt_no, provider_message_id, day,
                          scheduled_for, created_at, sent_at, provider_at)
    SELECT '{org_id}', id, 'out', 'sms', 'marketing', 'campaign', 'bench', 'sent', 'sent', '{sender_id}', contact_id,
           '+4916' || (100000000 + n), 'de', jsonb_build_object('firstName', 'Max' || n, 'lastName', 'Mustermann',
           'phone', '+4916' || (100000000 + n)), '{sender_id}', 1, name, at::date, at, at, at, at
      FROM loading;
    INSERT INTO attempts (org_id, message_id, attempt_no, lane_id, epoch, key, claimed_at, give_up_at, replay_until,
                          outcome, reason, provider_message_id, finished_at)
    SELECT '{org_id}', id, 1, '{sender_id}', 1, id || ':1', at, at, at, 'accepted', '', name, at FROM loading;
    INSERT INTO message_events (org_id, message_id, key, kind, source, old_status, new_status, attempt_no, at)
    SELECT '{org_id}', id, 'sent:1', 'sent', 'dispatch', 'scheduled', 'sent', 1, at FROM loading;
    INSERT INTO provider_ids (org_id, account_id, provider_message_id, message_id, attempt_no, at)
    SELECT '{org_id}', '{sender_id}', name, id, 1, at FROM loading;
    INSERT INTO message_keys (org_id, cause_id, subject_id, message_id)
    SELECT '{org_id}', '{sender_id}', contact_id, id FROM loading;
    DROP TABLE loading;
"""
