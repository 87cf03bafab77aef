"""Nothing that is asked for is left without somebody who does it."""

from __future__ import annotations

import ast

from antiphon.entry import wiring
from antiphon.jobs import model
from tests.architecture import source


def enqueued() -> set[str]:
    """The names of the jobs that the code enqueues: `jobs.enqueue(conn, org_id, ExpandAudience(…))`, or made before."""
    known = {job.name for module in source.modules() if module.path.stem == "jobs"
             for job in module.tree.body if isinstance(job, ast.ClassDef)}  # fmt: skip
    calls = [
        node for module in source.modules() for node in ast.walk(module.tree) if isinstance(node, ast.Call)
    ]
    asked = [call for call in calls if ast.unparse(call.func) == "jobs.enqueue"]
    assert asked, "no call of jobs.enqueue was found; this test looks for the wrong name"
    made = {ast.unparse(call.func) for call in calls}
    return {name for name in made & known if name not in ("Progress", "Importing") and name[0] != "_"}


def test_each_job_that_is_enqueued_has_a_handler() -> None:
    handled = {job.__name__ for job in wiring.HANDLERS}
    assert enqueued() - handled == set()


def test_no_two_jobs_share_a_kind_and_no_two_loops_a_name() -> None:
    kinds = [model.kind_of(job) for job in wiring.HANDLERS]
    names = [loop.name for loop in wiring.LOOPS]
    assert len(set(kinds)) == len(kinds)
    assert len(set(names)) == len(names)
