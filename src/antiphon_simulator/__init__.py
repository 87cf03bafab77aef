"""The providers' side of the wire, for the demo, the fault tests and the benchmarks: a program of its own.

    python -m antiphon_simulator --port 0 --smtp-port 0 --fast-port 0 --scenario demo

plays, over real sockets, a WSAPME gateway, Meta's WhatsApp Cloud API, a mail server and a *keyed* test provider
that takes an idempotency key. It is as strict about what it receives as the provider would be, signs what it sends
as the provider does, and writes everything that it receives to an append-only log *before* it answers: the oracle
of the tests. It imports nothing of Antiphon and Antiphon imports nothing of it; they meet on a socket.

Its shape, from the general to the particular:

* `__main__` starts the servers and prints one line of JSON that says where they listen;
* `world` is all that a running simulator knows; `control` is the API that changes and shows it;
* `exchange` is the road of one request: read, understand, log, plan what becomes of it, answer (or break the answer);
* `scenario` decides: pure, seeded, the same fate for the same recipient in every run; `demo` is one scenario;
* `settings` holds what may be set from outside, `faults` finds the fault that a request runs into, `answers` breaks
  answers on the wire;
* `lifecycle` lets time pass for each accepted message; `webhooks` signs, delivers, repeats and disorders the news;
* `oracle` is the log; `wire` is what a provider is: a record of functions, one provider a file
  (`wsapme`, `meta`, `keyed`; `smtp` and `fast` speak for themselves).

Honest limits. WSAPME publishes no documentation that could be read: its requests, its sending answer and its inbound
webhook are as observed in use; the answer of `getMessageStatus`, the shape of an acknowledgement webhook, the texts
of its errors, `/devices` and `/info`, and its limits are guesses in the manner of Baileys. Meta's HTTP status for a
WhatsApp error code is published for a few codes only; the others are guesses. After a restart the log is read again,
so keys, look-ups and polling go on where they were; a webhook that was being retried when the process died is lost,
as it would be at a provider that lost a machine.
"""
