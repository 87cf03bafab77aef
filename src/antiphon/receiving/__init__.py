"""Provider webhooks in: find the account, verify, keep the raw body, parse, hand on."""
