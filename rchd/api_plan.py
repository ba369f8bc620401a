"""The socket's methods that say what a run would be: no lease, no upload, no run (spec section 7)."""

from __future__ import annotations

from collections.abc import Sequence

from rch.contract import local_api as api
from rch.contract.errors import Failure, Kind
from rch.contract.local_plan import ExplainParams, RunPlanView, WorkersPlanView
from rch.contract.records import RunOptions
from rchd.api_taking import Taking
from rchd.core import effects as fx
from rchd.core import events as ev
from rchd.core.ask import UNAWAITED
from rchd.core.fleet import FLEET
from rchd.core.plan import run_options
from rchd.core.preview import planned_run, who_serves
from rchd.core.select import is_settled, select
from rchd.driver import Driver
from rchd.edges.intake import Intake
from rchd.edges.prober import Prober
from rchd.edges.socket import Connection


class PlanApi:
    """Goes the way of a run up to the choice of a worker, by the same functions.

    Workers are probed as a run would probe them: a young snapshot will do, and who is set aside is
    not asked. Nothing that is learned is told to the core.
    """

    def __init__(self, intake: Intake, prober: Prober, driver: Driver) -> None:
        self._intake = intake
        self._prober = prober
        self._driver = driver

    async def explained(self, params: ExplainParams, _connection: Connection) -> WorkersPlanView:
        """Who would serve the project, without a look at its source."""
        asked = api.SubmitParams(
            start=params.start,
            actions=params.actions,
            overrides=params.overrides,
            simulate=params.simulate,
        )
        request = await self._intake.read(asked)
        options = run_options(asked, request.resolved, request.planned)
        reports, embedded = await self._reports(options)
        view, _ = who_serves(
            project=request.root.path.name,
            root=str(request.root.path),
            options=options,
            reports=reports,
            embedded=embedded,
        )
        return view

    async def planned(self, params: api.SubmitParams, connection: Connection) -> RunPlanView:
        """The jobs that `runs.submit` would hand over, with the source as it is now."""
        taking, draft = Taking(), None
        with taking.awaited(params, connection), taking.scope:
            draft = await self._intake.draft(params)
        if draft is None:
            raise Failure(Kind.CANCELLED, "cancelled before the source was taken")
        reports, embedded = await self._reports(draft.options)
        return planned_run(draft, reports, embedded=embedded)

    async def _reports(self, options: RunOptions) -> tuple[Sequence[ev.ProbeReport], bool]:
        """As a run sees the workers; asked anew where old snapshots leave nobody."""
        fleet = self._driver.core.fleet
        for max_age in (options.probe_ttl_seconds, 0):
            effect = fx.Probe(
                run_id=FLEET,
                op=UNAWAITED,
                max_age=max_age,
                tags=options.tags,
                deadline=float(options.connect_timeout_seconds),
                aside=fleet.spared(),
                simulate=options.simulate,
            )
            probed = await self._prober.probed(effect)
            reports = fleet.screened(probed.reports)
            if select(options, reports).choices or is_settled(reports):
                break
        return reports, probed.embedded
