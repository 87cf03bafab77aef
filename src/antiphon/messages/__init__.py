"""THE LEDGER: every message out and in, the queue of what is unfinished, and the only road to a provider.

Writing a message here is sending it. The shape:

* `messages` (cold, wide, one row a message) says what is known; its status is a pure function of the facts on the row
  (`model.status_of`), so any order and any repetition of the same facts ends in the same row.
* `outbox` (hot, narrow, one row an unfinished message) says what is still to do: waiting (0), open (1: an attempt may
  be on the wire), doubtful (2), held (3). `sending` is read from it and never stored.
* `attempts` is the intent log: the row is committed before the provider is called and closed with the outcome after.
* `lanes` (one a sender) are the unit of lease, rate, throttling and order; their row is the lock. `gates` are what a
  campaign's or an organization's messages wait behind: closing one row stops a million.
* `funnel_deltas` are written by each statement that makes or moves messages; `funnel_counts` is their sum.

The walk of one message out:

    enqueue    messages + outbox (+ message_keys), in the transaction of the fact that caused it
    claim      the lane's owner, one statement: still mine? gate open? due? expired? active? suppressed? consent? order?
               -> attempt row, or skipped with the reason, or put off
    render     pure, from the version and variables on the row; a failure is its own message's failure only
    send       `providers.drive`, no transaction open, not begun after the wall
    record     closes the attempt, moves the outbox row and the ledger, frees the slot
    receipts   webhook and polling, one function: `receipts.apply`

Files: `model` (pure: statuses, facts) · `enqueue` · `lanes` (lanes and gates) · `pace` (pure: how many may leave now) ·
`claim` · `record` (outcomes) · `ledger` (the one statement that moves ledger rows) · `recovery` (dead owners, doubts) ·
`dispatch` (finds lanes) · `worker`, `lane_run` and `recording` (serve one) · `breaker` · `rendering` · `consequences` ·
`withdrawal` · `receipts` · `polling` · `doubts` · `inbound` · `funnel` · `reading` · `explain` · `doctor` · `queries` ·
`lane_service` · `cancelation` · `named` (one look-up) · `sending` and `service` (the verbs) · `api` and `lanes_api`.
"""
