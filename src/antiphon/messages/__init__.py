"""The ledger: messages, outbox, attempts, status history, dispatch and receipts."""
